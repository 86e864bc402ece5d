"""The name of the property under which a test records its figures, which the test run shows at its end."""

FIGURES = "figures"
