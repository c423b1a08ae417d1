"""What the command line can do: a file for each group of commands; files with an underscore hold what they share."""
