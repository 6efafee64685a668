"""Reading prompts, rankings, ratings and corpora, and the tokenizers that go with them."""
