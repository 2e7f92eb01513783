"""What `proxconnect check` is asked about, what it finds, and the legitimate pair that keeps B."""
