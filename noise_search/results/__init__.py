"""What a search hands back: values first, then views of them, and the face above."""
