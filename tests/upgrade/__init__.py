"""What earlier versions left in Redis, and how it is written down and read again."""
