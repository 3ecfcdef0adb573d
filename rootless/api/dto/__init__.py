"""Docker's JSON structures and their conversion to the model."""
