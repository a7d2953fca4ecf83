"""Looking inside a model: what was computed in a forward pass, and what follows from it.

Attention is drawn as what it is, a routing of information, and never called an explanation (Jain and Wallace 2019).
"""
