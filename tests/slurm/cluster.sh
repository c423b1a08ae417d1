#!/usr/bin/env bash
# A Slurm cluster of two nodes on this machine, for tests; needs root.
#   apt-get install --no-install-recommends slurmctld slurmd slurm-client munge
#   tests/slurm/cluster.sh up DIR;  export SLURM_CONF=DIR/slurm.conf;  ..;  tests/slurm/cluster.sh down DIR
set -euo pipefail
command=$1
dir=$(realpath -m "$2")

if [ "$command" = down ]; then
    for name in slurmd-n1 slurmd-n2 slurmctld munged; do
        [ -f "$dir/$name.pid" ] && kill "$(cat "$dir/$name.pid")" || true
    done
    exit 0
fi

mkdir -p "$dir"/{state,spool-n1,spool-n2}
chmod 755 "$dir"
dd if=/dev/urandom of="$dir/munge.key" bs=1024 count=1 2> /dev/null
chmod 400 "$dir/munge.key"
munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" \
    --log-file="$dir/munged.log" --seed-file="$dir/munged.seed"

# Ports of their own, so that a Slurm which is already here goes on undisturbed; no accounting, and no cgroups.
cat > "$dir/slurm.conf" << END
ClusterName=bench
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=16917
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool-%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd-%n.log
KillWait=5
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=n1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=16921 CPUs=2 RealMemory=8000
NodeName=n2 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=16922 CPUs=2 RealMemory=8000
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END

export SLURM_CONF="$dir/slurm.conf"
slurmctld -c
slurmd -N n1
slurmd -N n2
for _ in $(seq 100); do
    [ "$(sinfo --noheader --Node --states=idle --format=%N 2> /dev/null | sort -u | wc -l)" = 2 ] && exit 0
    sleep 0.1
done
echo "the nodes did not come up; see $dir/slurmctld.log" >&2
exit 1
