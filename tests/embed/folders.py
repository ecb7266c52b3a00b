"""Folders of models as people have them, made of the files that are here."""

import json
import lzma
from importlib.resources import files
from pathlib import Path

from tests.embed.test_minilm import models
from trivet.embed.builtin import WIDTH, Table
from trivet.embed.wordpiece import CLS, SEP, vocabulary
from trivet.weights import MINILM, Store


def minilm_folder(place: Path) -> Path:
    """Make the folder of all-MiniLM-L6-v2 in ONNX, as it is shared, of the file that Trivet fetches."""
    folder = place / "all-MiniLM-L6-v2"
    folder.mkdir()
    (folder / "model.onnx").symlink_to(Store(models()).fetch(MINILM, lambda done_bytes, total_bytes, what: None))
    (folder / "vocab.txt").write_bytes(lzma.decompress((files("trivet.embed") / "vocabulary.txt.xz").read_bytes()))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 256, "do_lower_case": False}))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "max_position_embeddings": 512}))
    return folder


def bert_tokenizer() -> str:
    """Give the `tokenizer.json` of bert-base-uncased, made of its vocabulary."""
    import tokenizers
    from tokenizers import normalizers, pre_tokenizers, processors

    words = {token: i for i, token in enumerate(vocabulary())}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(words, unk_token="[UNK]"))  # no password
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return str(made.to_str())


def static_sentences(place: Path) -> Path:
    """Make a model of sentence-transformers: the mean of the vectors that words have in the builtin embedder."""
    import numpy as np
    import tokenizers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    table, every = Table(), np.zeros((len(vocabulary()), WIDTH), np.float32)
    for token, row in enumerate(every):
        table.add([token], row)
    tokenizer = tokenizers.Tokenizer.from_str(bert_tokenizer())
    folder = place / "static"
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=every)], device="cpu").save(str(folder))
    return folder


def bert_sentences(folder: Path, *, seed: int) -> Path:
    """Make a model of sentence-transformers that has learned nothing: a BERT of one layer, which reads 64 tokens."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    bert = folder.with_suffix(".bert")
    BertModel(BertConfig(**sizes, max_position_embeddings=64)).save_pretrained(bert)
    (bert / "tokenizer.json").write_text(bert_tokenizer())
    BertTokenizerFast(tokenizer_file=str(bert / "tokenizer.json")).save_pretrained(bert)
    transformer = Transformer(str(bert), max_seq_length=64)
    SentenceTransformer(modules=[transformer, Pooling(32)], device="cpu").save(str(folder))
    return folder
