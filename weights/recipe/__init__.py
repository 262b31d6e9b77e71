"""How `zeus-mini` is trained: label maps in, an exported safetensors file out.

Read in this order: `anatomy` (what can be asked for), `prompts` and `text` (how it is asked),
`slices` and `paint` (what the model sees), `batches`, `model`, `losses`, `train`, `export`,
`evaluate`.  `python -m recipe --help` lists the steps.
"""
