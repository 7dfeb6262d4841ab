"""A slide and single cells of the same tissue as a pair: which genes they share, which are closed, which are wanted.

Arrays alone: files are read above. Nothing here imports torch.
"""
