"""What both sides share: settings, the vocabulary, the backlog, storage, dialects. No Flask, no torch."""
