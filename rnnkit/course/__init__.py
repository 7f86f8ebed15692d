"""What the lessons use: their start and advice, claims, replications, exercises, explorers, the clinic, the doctor."""
