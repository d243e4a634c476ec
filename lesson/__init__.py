"""The small model's world: its questions, the teacher that it learns from, its tokenizer."""
