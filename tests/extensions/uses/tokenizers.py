import os
import tempfile

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)


def texts(seed: int) -> list[str]:
    words = ["low", "lower", "newest", "widest", "naïve", f"seed{seed}"]
    return [" ".join(words[(i * k) % len(words)] for k in range(1, 9)) for i in range(300)]


def use(seed: int) -> None:
    corpus = texts(seed)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(iter(corpus), trainer, length=len(corpus))
    assert tokenizer.token_to_id("<s>") == 0 and tokenizer.token_to_id("low") is not None
    for text in (*corpus[:20], "never seen: 日本 😀"):
        encoding = tokenizer.encode(text)
        assert tokenizer.decode(encoding.ids) == text
        assert len(encoding.offsets) == len(encoding.tokens) == len(encoding.ids)
    assert tokenizer.encode("lower lower").tokens == ["lower", "Ġlower"]
    many = tokenizer.encode_batch(corpus)
    assert tokenizer.decode_batch([encoding.ids for encoding in many]) == corpus

    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.enable_padding(length=12)
    tokenizer.enable_truncation(12)
    padded = tokenizer.encode("low")
    assert (
        padded.ids[0] == 0 and padded.ids[2] == 1 and padded.attention_mask == [1] * 3 + [0] * 9
    )
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tokenizer.json")
        tokenizer.save(path)
        assert Tokenizer.from_file(path).encode("lower").ids == tokenizer.encode("lower").ids

    # A vocabulary made by hand, and a normalizer.
    words = Tokenizer(
        models.WordPiece({"[UNK]": 0, "un": 1, "##able": 2, "cafe": 3}, unk_token="[UNK]")
    )
    words.normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+"), "removed")
    assert words.encode("Unable  CAFÉ xyz").ids == [1, 2, 3, 0]
    try:
        Tokenizer.from_str("{no json")
    except Exception as error:
        assert type(error) is Exception
    else:
        raise AssertionError("no Exception")
