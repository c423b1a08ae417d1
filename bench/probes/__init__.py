"""Probes: functions that look at a training moment and leave it undisturbed, one file each."""
