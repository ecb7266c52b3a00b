"""The embedders: texts to vectors in this process, without a network.

`builtin` is a table of word vectors that is in the package; `minilm` is all-MiniLM-L6-v2 over onnxruntime. Both stand
on one tokenizer (`wordpiece`) and one thread each (`batches`); `lender` has one of a kind shared by all who need it.
"""
