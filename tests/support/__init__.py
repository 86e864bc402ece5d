"""Real counterparts and fakes for the tests: servers, shells, players, a browser, an oracle."""
