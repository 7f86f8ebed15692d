"""What a teacher uses: lessons handed out to a class, and notebooks that come back graded."""
