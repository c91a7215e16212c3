"""What a distributed forward pass takes on real processes and links, side by side with its floor."""
