"""A run told three ways: run.json for programs, junit.xml for CI, index.html for people.

In: the stages' results and values, as many as the run got to. Out: text.
Never here: a judgement of its own; what is proven is what the smoke stage's Proof says.
"""
