"""Ways to train the trials of a cohort, one a file; `contracts.Cohort` says what each provides."""
