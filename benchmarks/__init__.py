"""What makes DIOE's published tables again: real models, real inputs, and how they are timed."""
