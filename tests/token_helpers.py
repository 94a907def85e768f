"""Texts in many scripts, and folders with small tokenizers that were trained on them, as their authors' files are."""

import functools
import io
import json
import random
from pathlib import Path
from typing import Any

RANGES = {
    "latin": "a-z A-Z \u00e0-\u00ff \u0100-\u017f",
    "greek": "\u0391-\u03a9 \u03b1-\u03c9",
    "cyrillic": "\u0410-\u044f",
    "armenian": "\u0531-\u0556 \u0561-\u0587",
    "hebrew": "\u05d0-\u05ea",
    "arabic": "\u0627-\u063a \u0641-\u064a \u064b-\u0652",
    "devanagari": "\u0905-\u0939 \u093e-\u094d",
    "bengali": "\u0985-\u098c \u0995-\u09a8 \u09be-\u09c4",
    "tamil": "\u0b85-\u0b8a \u0b95-\u0b95 \u0bae-\u0bb9 \u0bbe-\u0bc2",
    "telugu": "\u0c05-\u0c0c \u0c15-\u0c28 \u0c3e-\u0c44",
    "thai": "\u0e01-\u0e30 \u0e31-\u0e3a \u0e40-\u0e4e",
    "lao": "\u0e81-\u0e82 \u0e94-\u0e97 \u0eb0-\u0eb9",
    "georgian": "\u10d0-\u10f0 \u1c90-\u1cb0",
    "amharic": "\u1200-\u1248",
    "khmer": "\u1780-\u17b3 \u17b6-\u17c5",
    "tibetan": "\u0f40-\u0f47 \u0f71-\u0f7c",
    "hangul": "\uac00-\uac80 \u1100-\u1112",
    "hiragana": "\u3041-\u3096",
    "katakana": "\u30a1-\u30fa \uff66-\uff9d",
    "han": "\u4e00-\u4f00 \U00020000-\U00020020",
    "cherokee": "\u13a0-\u13f5",
    "deseret": "\U00010400-\U0001044f",
}
"""First and last characters of alphabets, by script."""
SPACES = " \t\n\r\x0b\x0c\x1c\x1f\x85\xa0\u1680\u2000\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
OTHERS = (
    *"0123456789\u0663\u096b\u00bd\u2167\u00b2",
    *"!?.,;:'\"()[]{}<>|_-/\\@#$%^&*+=~`\u00a1\u00bf\u2019\u201c\u2013\u2026\u3002\uff01",
    *"\u0301\u0308\u0327\u20e3\ufe0f\u200b\u200d\u200e\u202e\u00ad\ufeff\x00\x07\x1b\x7f\ufffd\U0010ffff",
    *("\U0001f600", "\U0001f469\u200d\U0001f680", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f", "\U0001f44d\U0001f3fd"),
    *("'s", "'T", "'ll", "a photo of a ", "A PHOTO", "\u0130", "\u00df", "\ufb01", "\u1e9e", "\u03a3", "\u2581"),
)
GEMMA_SPECIALS = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
MARKERS = ("</s>", "<unk>", "<pad>", "<eos>", "<bos>", "<|endoftext|>", "<|startoftext|>", "<mask>", "<|EndOfText|>")


def letters(script: str) -> list[str]:
    """The characters of a script."""
    pairs = [part.split("-") if len(part) > 1 else [part, part] for part in RANGES[script].split(" ")]
    return [chr(code) for first, last in pairs for code in range(ord(first), ord(last) + 1)]


@functools.cache
def texts(n: int = 2000, seed: int = 0) -> list[str]:
    """Texts in all scripts, with digits, emoji, marks, controls, spaces of every kind; empty ones and long ones."""
    rng = random.Random(seed)
    alphabets = [letters(script) for script in RANGES]
    fixed = ["", " ", "\n\t ", "!!!", "_", "\u2581", "a", "</s>", "<unk> <unk>", "a" * 3000, "ab " * 500, "\u0301"]
    return fixed + [_text(rng, alphabets[i % len(alphabets)], alphabets) for i in range(n - len(fixed))]


def _text(rng: random.Random, alphabet: list[str], alphabets: list[list[str]]) -> str:
    words = []
    for _ in range(rng.choice((1, 2, 3, 5, 8, 20))):
        kind = rng.random()
        own = alphabet if kind < 0.7 else rng.choice(alphabets)
        # Of a few letters each, so that merges are learned.
        word = "".join(rng.choice(own[: 2 + 3 * rng.randrange(8)]) for _ in range(rng.randrange(1, 9)))
        word = word.title() if kind < 0.1 else word
        word += rng.choice(OTHERS) if rng.random() < 0.3 else ""
        word += rng.choice(MARKERS) if rng.random() < 0.02 else ""
        words.append(word + (rng.choice(SPACES) if rng.random() < 0.2 else " ") * rng.choice((1, 1, 1, 2)))
    return "".join(words)


@functools.cache
def unigram(size: int) -> bytes:
    """Train a SentencePiece model of so many pieces at most, with T5's special tokens."""
    import sentencepiece

    model = io.BytesIO()
    lines = [line.replace("\n", " ").replace("\x00", "") for line in texts(600, seed=1)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for line in lines if line.strip()),
        model_writer=model,
        model_type="unigram",
        vocab_size=size,
        character_coverage=0.98,  # so that some characters are unknown
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        pad_piece="<pad>",
        num_threads=1,
        num_sub_iterations=1,
        max_sentencepiece_length=8,
        seed_sentencepiece_size=2000,
        minloglevel=2,
    )
    return model.getvalue()


@functools.cache
def byte_pairs(size: int) -> bytes:
    """Train a SentencePiece model as Gemma's is: byte pairs, spaces kept, bytes for unknown characters."""
    import sentencepiece

    model = io.BytesIO()
    lines = [line.lower().replace("\n", " ").replace("\x00", "") for line in texts(600, seed=1)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for line in lines if line.strip()),
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        character_coverage=0.98,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        unk_piece="<unk>",
        user_defined_symbols=["<mask>", "\u0e01\u0e02"],
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def write_siglip_tokenizer(folder: Path, *, size: int = 900) -> int:
    """Write ``spiece.model`` as SigLIP has it, trained here; return the size of its vocabulary."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    model = unigram(size)
    (folder / "spiece.model").write_bytes(model)
    marks = {"lstrip": True, "normalized": False, "rstrip": True, "single_word": False, "special": True}
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "SiglipTokenizer",
            "added_tokens_decoder": {"1": {"content": "</s>", **marks}, "2": {"content": "<unk>", **marks}},
            "additional_special_tokens": [],
            "do_lower_case": True,
            "eos_token": "</s>",
            "pad_token": "</s>",
            "unk_token": "<unk>",
            "model_max_length": 64,
        },
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return int(processor.get_piece_size())


@functools.cache
def gemma_json(size: int) -> str:
    """Train a ``tokenizer.json`` as Gemma's is, of so many tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    # Bytes are tokens of their own, for characters that have none.
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        limit_alphabet=300,
        special_tokens=GEMMA_SPECIALS + [f"<0x{byte:02X}>" for byte in range(256)],
        show_progress=False,
        max_token_length=12,
    )
    words = [word + " " for text in texts(600, seed=1) for word in text.lower().split(" ")]
    tokenizer.train_from_iterator(words, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0 <eos>:0", pair="$A:0 <eos>:0 $B:1 <eos>:1", special_tokens=[("<eos>", 1)]
    )
    whole = json.loads(tokenizer.to_str())
    # As in Gemma's file, where bytes are pieces of the vocabulary and no added tokens.
    whole["added_tokens"] = [token for token in whole["added_tokens"] if token["content"] in GEMMA_SPECIALS]
    return json.dumps(whole, ensure_ascii=False)


def write_siglip2_tokenizer(folder: Path, *, size: int = 900, kind: str = "Siglip2Tokenizer") -> int:
    """Write ``tokenizer.json`` as SigLIP 2 has Gemma's, trained here; return the size of its vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(gemma_json(size), "utf-8")
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": kind,
            "add_bos_token": False,
            "add_eos_token": True,
            "added_tokens_decoder": {str(i): {"content": token, **flags} for i, token in enumerate(GEMMA_SPECIALS)},
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "padding_side": "right",
        },
    )
    return len(json.loads(gemma_json(size))["model"]["vocab"])


@functools.cache
def clip_files(size: int) -> tuple[str, str]:
    """Train ``vocab.json`` and ``merges.txt`` as CLIP's are, of so many tokens and the two at the ends of a text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        special_tokens=[f"{letter}</w>" for letter in alphabet],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(600, seed=1), trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    vocabulary = {token: i for i, token in enumerate(sorted(trained["vocab"], key=trained["vocab"].get))}
    for marker in ("<|startoftext|>", "<|endoftext|>"):  # the largest numbers, by which the tower finds the end
        vocabulary[marker] = len(vocabulary)
    merges = [" ".join(merge) for merge in trained["merges"]]
    return json.dumps(vocabulary, ensure_ascii=False), "\n".join(["#version: 0.2", *merges, ""])


def write_clip_tokenizer(folder: Path, *, size: int = 900, whole: bool = False) -> int:
    """Write ``vocab.json`` and ``merges.txt`` as CLIP has them, or ``tokenizer.json``; the size of its vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = clip_files(size)
    (folder / "vocab.json").write_text(vocabulary, "utf-8")
    (folder / "merges.txt").write_text(merges, "utf-8")
    write_json(folder / "tokenizer_config.json", clip_config())
    if whole:
        as_json(folder)
    return len(json.loads(vocabulary))


def clip_config() -> dict[str, Any]:
    """The ``tokenizer_config.json`` of OpenAI's CLIP."""

    def token(content: str, **flags: bool) -> dict[str, Any]:
        usual = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
        return {"__type": "AddedToken", "content": content, **usual, **flags}

    return {
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": token("<|endoftext|>"),
        "bos_token": token("<|startoftext|>"),
        "eos_token": token("<|endoftext|>"),
        "pad_token": "<|endoftext|>",
        "add_prefix_space": False,
        "errors": "replace",
        "do_lower_case": True,
        "model_max_length": 77,
    }


def as_json(folder: Path) -> None:
    """Replace ``vocab.json`` and ``merges.txt`` by the ``tokenizer.json`` that transformers writes."""
    from transformers import CLIPTokenizer

    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
