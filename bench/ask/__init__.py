"""What a suite asks for: YAML and components in, a plan of workloads, studies and trials out. No torch."""
