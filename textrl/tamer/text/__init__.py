"""TAMER on text: H over all tokens of a vocabulary, taught by presses on words that appear one by one.

`head` is H on the frozen model's hidden states, `teaching` what presses and spans teach it and how any of
them is taken back, `lessons` what is learnt again, `saved` heads on the disk, `words` the text of tokens and
which of them make a word. `human` is the loop with a reader, `reading` what the reader sees, `sessions` the
record of it. Import from these: `head`, `teaching` and `saved` compute with torch, this package imports none.
"""
