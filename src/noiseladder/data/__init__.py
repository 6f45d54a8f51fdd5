"""What is learned from: windows of long sequences, and the scale of what is in them."""
