"""GeST: a generative transformer of cells in space; see README.md."""
