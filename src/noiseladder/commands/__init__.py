"""What the command line says about the house itself; experiments are commands too, but live in recipes."""
