"""The command line: reads options, runs an action, prints the result. No other part of the package imports it."""
