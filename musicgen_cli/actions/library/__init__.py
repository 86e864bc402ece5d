"""What can be done with stored takes: export, import, trace their lineage, reproduce."""
