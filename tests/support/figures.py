"""Under which name a test records what it tried, to be shown in the end."""

FIGURES = "figures"
