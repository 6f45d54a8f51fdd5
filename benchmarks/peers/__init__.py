"""The forecasters ours is compared with; each fits once before the first window and never sees a test window."""
