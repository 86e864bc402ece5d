"""Programs that interrupt the store, and see that nothing is lost."""
