"""Files as other tools write them, and as people spoil them: read as what they say, or told in a sentence."""

import json
import logging

import pytest

from heedful.configs import command_line, sft
from heedful.data.files import read_rows
from heedful.data.sources import (
    read_comparisons,
    read_demonstrations,
    read_prompts,
    read_questions,
    read_samples,
    read_unpaired,
)
from heedful.errors import UserError
from heedful.transfer.sources import materialise
from heedful.types import Message

ASK = (Message("user", "Which bird is red?"),)
USER, SAID = (
    {"role": "user", "content": "Which bird is red?"},
    {"role": "assistant", "content": "A robin."},
)
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


@pytest.fixture
def put(tmp_path):
    def put(*rows, name="rows.jsonl", text=None):
        path = tmp_path / name
        body = "".join(json.dumps(row) + "\n" for row in rows) if text is None else text
        path.write_bytes(body if isinstance(body, bytes) else body.encode())
        return path

    return put


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Which bird is red?", "input": "", "output": "A robin."},
        {"question": "Which bird is red?", "answer": "A robin."},
        {"query": "Which bird is red?", "response": "A robin."},
        {"conversations": [{"from": "human", "value": "Which bird is red?"}, {"from": "gpt", "value": "A robin."}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Which bird "},
                                                   {"type": "text", "text": "is red?"}]}, SAID]},
        {"Prompt ": [USER], " Completion": "A robin."},
        {"prompt": "\n\nHuman: Which bird is red?\n\nAssistant:", "completion": "A robin."},
    ],
    ids=["alpaca", "question", "query", "sharegpt", "parts", "capitals", "hh"],
)  # fmt: skip
def test_demonstrations_of_other_tools(row, put):
    """Mutation caught: a question as plain text, which trains without the chat template."""
    (found,) = read_demonstrations(put(row))
    assert (found.prompt, found.completion) == (ASK, "A robin.")
    if "completion" not in row:
        assert read_prompts(put(row)) == [ASK]  # and the same file is one of prompts


def test_alpaca_with_all_its_columns(put):
    row = {"instruction": "Sort.", "input": "b a", "output": "a b", "system": "Be terse.",
           "history": [["Hi", "Hello"]], "topic": "order"}  # fmt: skip
    (found,) = read_demonstrations(put(row))
    roles = [(m.role, m.content) for m in found.prompt]
    assert roles == [
        ("system", "Be terse."),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Sort.\nb a"),
    ]
    ((prompt, facts),) = read_questions(put(row))
    assert prompt == found.prompt and dict(facts) == {"output": "a b", "topic": "order"}


PAIRS = [["Hi", "Hello"]]
SPOKEN = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.mark.parametrize("history", [PAIRS, json.dumps(PAIRS), SPOKEN])
def test_a_history_is_what_was_said_before(history, put):
    """Mutation caught: brackets of a JSON text, or the keys of messages, taken for turns."""
    (found,) = read_demonstrations(
        put({"instruction": "Sort.", "output": "a b", "history": history})
    )
    assert [m.content for m in found.prompt] == ["Hi", "Hello", "Sort."]


@pytest.mark.parametrize("history", ["he had a cold", "[]", [], "", None, ["a"], [["a", "b", "c"]]])
def test_what_is_no_history_is_no_turn(history, put):
    """Mutation caught: the first letters of a patient's history as turns of a conversation."""
    row = {"instruction": "Sort.", "output": "a b", "history": history}
    ((prompt, facts),) = read_questions(put(row))
    assert [m.content for m in prompt] == ["Sort."]
    assert facts.get("history") == (None if history in ("[]", [], "", None) else history)


@pytest.mark.parametrize(
    ("row", "ranking"),
    [
        ({"input": {"messages": [USER]}, "preferred_output": [SAID],
          "non_preferred_output": [{"role": "assistant", "content": "A crow."}]}, (1, 2)),
        ({"conversations": [{"from": "human", "value": "Which bird is red?"}],
          "chosen": {"from": "gpt", "value": "A robin."}, "rejected": {"from": "gpt", "value": "A crow."}}, (1, 2)),
        ({"conversation_a": [USER, SAID], "conversation_b": [USER, {"role": "assistant", "content": "A crow."}],
          "winner": "model_b", "judge": "j"}, (2, 1)),
        ({"conversation_a": [USER, SAID], "conversation_b": [USER, {"role": "assistant", "content": "A crow."}],
          "winner": "tie"}, (1, 1)),
        ({"question": "Which bird is red?", "response_a": "A robin.", "response_b": "A crow.", "winner": "B"}, (2, 1)),
        ({"prompt": [USER], "chosen": "A robin.", "rejected": "A crow.", "responses": ["x"], "label": 0}, (1, 2)),
    ],
    ids=["openai", "sharegpt", "arena", "arena tie", "side by side", "more columns"],
)  # fmt: skip
def test_comparisons_of_other_tools(row, ranking, put):
    """Mutation caught: who is better turned round."""
    (found,) = read_comparisons(put(row))
    assert (found.prompt, found.responses) == (ASK, ("A robin.", "A crow."))
    assert found.ranking == ranking
    assert read_prompts(put(row)) == [ASK]


def test_a_text_prompt_is_a_copy_of_a_turn(put):
    """UltraFeedback's habit. Mutation caught: another prompt than the conversations' is dropped in silence."""
    chosen, rejected = [USER, SAID], [USER, {"role": "assistant", "content": "A crow."}]
    for prompt in ("Which bird is red?", " Which bird is red?\n", "Be brief. Which bird is red?"):
        (found,) = read_comparisons(put({"prompt": prompt, "chosen": chosen, "rejected": rejected}))
        assert found.prompt == ASK
    with pytest.raises(UserError, match="`chosen` does not begin with the turns of `prompt`"):
        read_comparisons(put({"prompt": "What is 2+2?", "chosen": chosen, "rejected": rejected}))


def test_prompts_are_what_the_other_readers_ask(put):
    """UltraFeedback binarized, Tulu's preferences, No Robots: `prompt` is a copy of one turn beside conversations.
    Mutation caught: PPO samples on plain text what DPO had asked through the chat template, without the system."""
    told = {"role": "system", "content": "Be brief."}
    whole = [told, USER, SAID]
    rejected = [*whole[:-1], {"role": "assistant", "content": "A crow."}]
    pair = {"prompt": USER["content"], "chosen": whole, "rejected": rejected}
    for row in (pair, pair | {"messages": whole}, pair | {"rejected": whole}):
        (found,) = read_prompts(put(row))
        assert found == (Message("system", "Be brief."), *ASK)
    assert read_comparisons(put(pair))[0].prompt == found
    robots = {"prompt": USER["content"], "messages": [*whole, USER, SAID]}
    (found,) = read_prompts(put(robots))
    assert found == read_demonstrations(put(robots))[-1].prompt and len(found) == 4
    (found,) = read_prompts(put({"prompt": USER["content"], "completion": [SAID]}))
    assert found == ASK


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt": USER["content"], "chosen": "A robin.", "rejected": "A crow."},
        {"prompt": [USER], "chosen": "A robin.", "rejected": "A crow."},
        {"prompt": USER["content"], "chosen": [USER, SAID], "rejected": [USER, SAID | {"content": "A crow."}]},
        {"messages": [USER, SAID]},
        {"prompt": json.dumps([USER]), "completion": "A robin."},
        {"prompt": USER["content"], "completion": "A robin.", "label": True},
    ],
)  # fmt: skip
def test_what_the_system_says_in_a_column_is_told(asked, put, caplog):
    """truthy-dpo and its kin. Mutation caught: the system prompt of every row is lost; it is told twice."""
    reads = {"chosen": read_comparisons, "label": read_unpaired}
    read = next((r for name, r in reads.items() if name in asked), read_demonstrations)
    path = put(asked | {"system": "Be brief."})
    wanted = (Message("system", "Be brief."), *ASK)
    assert read(path)[0].prompt == read_prompts(path)[0] == wanted
    assert not caplog.text
    if isinstance(turns := asked.get("messages"), list):
        own = [{"role": "system", "content": "Be kind."}, *turns]
        (found,) = read_demonstrations(put({"messages": own, "system": "Be brief."}))
        assert found.prompt[0].content == "Be kind." and len(found.prompt) == 2
    for nothing in ("", None, {"name": "x"}):
        assert read(put(asked | {"system": nothing}))[0].prompt != wanted


def test_pairs_of_what_was_said_and_answered(put):
    """Capybara's. Mutation caught: the last pair, which waits for its answer in the preferences, ends the reading."""
    turns = [{"input": "Hi", "output": "Hello"}, {"input": USER["content"], "output": "A robin."}]
    found = read_demonstrations(put({"source": "Dove", "conversation": turns}))
    assert [d.completion for d in found] == ["Hello", "A robin."] and len(found[1].prompt) == 3
    waiting = [turns[0], turns[1] | {"output": None}]
    assert read_prompts(put({"conversation": waiting})) == [found[1].prompt]


def test_the_worked_solution_is_what_is_learned(put):
    """Mutation caught: the bare number of a `problem` with `solution` and `answer`, which NuminaMath has."""
    row = {"problem": "2+2?", "solution": "Two and two are 4.", "answer": "4"}
    (found,) = read_demonstrations(put(row))
    assert found.completion == "Two and two are 4."
    assert dict(read_questions(put(row))[0][1])["answer"] == "4"


def test_data_of_another_kind_is_told_by_what_it_is_for(put):
    """Mutation caught: *did you mean* a column that has nothing to do with it."""
    shown = put({"prompt": "a", "completion": "b"})
    with pytest.raises(UserError, match="`train sft` learns from it; found prompt, completion;"):
        read_comparisons(shown)
    both = {"chosen": [USER, SAID], "rejected": [USER, SAID]}
    for row in ({"prompt": "a", "chosen": "b", "rejected": "c"}, both):
        with pytest.raises(UserError, match="`train dpo`, `train reward` and their kin learn"):
            read_demonstrations(put(row))
    with pytest.raises(UserError, match="`completion`, found prompt;"):
        read_samples(put({"prompt": "a"}))


def test_null_columns_of_joined_sets(put):
    """Mutation caught: a null `prompt` beside `messages` refuses the row."""
    nulls = {"prompt": None, "completion": None}
    rejected = [USER, {"role": "assistant", "content": "A crow."}]
    for row in (nulls | {"messages": [USER, SAID]}, {"prompt": [USER], "completion": "A robin.", "messages": None},
                nulls | {"instruction": "Which bird is red?", "output": "A robin."}):  # fmt: skip
        (found,) = read_demonstrations(put(row))
        assert (found.prompt, found.completion) == (ASK, "A robin.")
        assert read_prompts(put(row)) == [ASK]
    (pair,) = read_comparisons(put(nulls | {"chosen": [USER, SAID], "rejected": rejected}))
    assert pair.prompt == ASK
    with pytest.raises(UserError, match="`prompt` must be text"):
        read_demonstrations(put(nulls))


def test_conversations_as_text(put):
    """As tables keep them. Mutation caught: JSON, or what Python prints, trained on as plain text."""
    for name, row in (
        ("a.jsonl", {"prompt": json.dumps([USER]), "completion": "A robin."}),
        ("a.csv", None),
    ):
        cell = json.dumps([USER]).replace('"', '""')
        text = json.dumps(row) if row else f'prompt,completion\n"{cell}",A robin.\n'
        (found,) = read_demonstrations(put(name=name, text=text))
        assert found.prompt == ASK
    for text in ('[{"role": "user"}] is what?', '["a"]', "[{'x': 1}]"):
        assert read_prompts(put({"prompt": text})) == [text]
    with pytest.raises(UserError, match="as Python prints them"):
        read_demonstrations(put(name="a.csv", text=f'prompt,completion\n"{[USER]}",A robin.\n'))
    with pytest.raises(UserError, match="as Python prints them"):
        read_prompts(put({"prompt": str([USER])}))


def test_a_prompt_that_every_response_repeats_is_there_once(put, caplog):
    """OpenRLHF's and HH's habit. Mutation caught: the same done to one row that begins so by chance."""
    rows = [{"prompt": p, "chosen": f"{p} {a}", "rejected": f"{p} {b}"}
            for p, a, b in (("2+2?", "4", "5"), ("3+3?", "6", "7"))]  # fmt: skip
    found = read_comparisons(put(*rows))
    assert [c.responses for c in found] == [(" 4", " 5"), (" 6", " 7")]
    assert "repeats its prompt" in caplog.text
    found = read_comparisons(put(*rows, {"prompt": "9?", "chosen": "a", "rejected": "b"}))
    assert found[0].responses == ("2+2? 4", "2+2? 5")
    hh = "Human: Which bird is red?"
    row = {
        "prompt": hh,
        "chosen": f"{hh}\n\nAssistant: A robin.",
        "rejected": f"{hh}\n\nAssistant: A crow.",
    }
    (one,) = read_comparisons(put(row))
    assert (one.prompt, one.responses) == (ASK, ("A robin.", "A crow."))


def test_samples_that_repeat_their_prompts_are_told(put, caplog):
    """As pipelines of transformers return them. Mutation caught: silence; what a model wrote cut off."""
    rows = [{"prompt": p, "completion": f"{p} {c}"} for p, c in (("2+2?", "4"), ("3+3?", "6"))]
    assert [s["completion"] for s in read_samples(put(*rows))] == ["2+2? 4", "3+3? 6"]
    assert "every completion repeats its prompt" in caplog.text
    caplog.clear()
    read_samples(put(*rows, {"prompt": "9?", "completion": "3"}))
    assert not caplog.text


def test_tools_and_their_calls(put):
    """Every role and key of tool use; arguments that are a JSON text become an object, as templates want them."""
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "look_up", "arguments": '{"bird": "red"}'},
    }
    row = {
        "messages": [
            {"role": "system", "content": "You know birds."}, USER,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "name": "look_up", "content": "robin"}, SAID,
        ],
        "tools": [TOOL],
        "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip
    asks, answers = read_demonstrations(put(row))
    assert asks.completion == "" and asks.tool_calls[0]["function"]["arguments"] == {"bird": "red"}
    assert [m.role for m in answers.prompt] == ["system", "user", "assistant", "tool"]
    assert answers.prompt[-1] == Message("tool", "robin", (), "look_up", "c1")
    for found in (asks, answers):
        assert found.prompt[0].tools == (TOOL,)
        assert found.prompt[0].template_kwargs == {"enable_thinking": False}
    as_text = {
        **row,
        "tools": json.dumps([TOOL["function"]]),
    }  # how Parquet files keep them, and older ones
    assert read_demonstrations(put(as_text))[0].prompt[0].tools == (TOOL,)
    called = {"name": "look_up", "arguments": {"bird": "red"}}
    sharegpt = {"conversations": [{"from": "human", "value": "Which bird is red?"},
                                  {"from": "function_call", "value": json.dumps(called)},
                                  {"from": "observation", "value": "robin"}, {"from": "gpt", "value": "A robin."}],
                "tools": json.dumps([TOOL])}  # fmt: skip
    found = read_demonstrations(put(sharegpt))
    assert [(d.completion, len(d.tool_calls)) for d in found] == [("", 1), ("A robin.", 0)]
    for bad, words in [
        ({"prompt": "x", "completion": "y", "tools": [TOOL]}, "plain text"),
        ({"messages": [USER, SAID], "tools": "look_up"}, "`tools` holds 'look_up'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, SAID]}, "'image_url'"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "or tool calls"),
        ({"messages": [USER, SAID | {"reasoning_content": "Red."}]}, "would be left out"),
        ({"text": "A robin is red."}, "train pretrain"),
    ]:
        with pytest.raises(UserError, match=words):
            read_demonstrations(put(bad))


def test_a_turn_of_weight_0_is_context(put):
    """OpenAI's name and others'. Mutation caught: `train` false, or a weight written as text, is learned in silence."""
    for mark in ({"weight": 0}, {"weight": 0.0}, {"train": False}, {"loss": False, "weight": None}):
        turns = [USER, SAID | mark, USER, SAID | {"weight": 1, "train": True}]
        (found,) = read_demonstrations(put({"messages": turns}))
        assert len(found.prompt) == 3
    for mark in ({"weight": "0"}, {"weight": 0.5}, {"train": "false"}):
        with pytest.raises(UserError, match=f"`{next(iter(mark))}` of a message must be 1 or true"):
            read_demonstrations(put({"messages": [USER, SAID | mark]}))


def test_columns_by_other_names_and_several_files(put):
    """Mutation caught: a share that takes the first rows; a question that is mapped loses its user's turn."""
    ours = put({"prompt": "a", "completion": " b"}, name="ours.jsonl")
    theirs = put(
        *({"frage": f"{i}?", "antwort": str(i), "prompt": "no"} for i in range(4)), name="de.jsonl"
    )
    found = read_demonstrations(
        [f"{theirs}@0.5", f"{theirs}@1.5"], ["prompt=frage, completion=antwort"]
    )
    assert [d.completion for d in found] == ["1", "3", "0", "1", "1", "2", "3", "3"]
    assert found[0].prompt == "1?"
    (found,) = read_demonstrations(
        put({"question": ASK[0].content, "a": "b"}), ["prompt=question", "completion=a"]
    )
    assert found.prompt == ASK
    assert len(read_demonstrations([ours, f"{ours}@3"])) == 4
    for columns, words in [
        (["prompt=x"], "names `x`, found prompt, completion"),
        (["prompt"], "expected pairs"),
    ]:
        with pytest.raises(UserError, match=words):
            read_demonstrations(ours, columns)
    for share in ("-1", "abc", "0", "0.5x", ""):
        with pytest.raises(UserError, match="share of the rows must be a number above 0"):
            read_demonstrations([ours, f"{ours}@{share}"])
    with pytest.raises(UserError, match="of the rows must be a number above 0"):
        read_demonstrations("no.jsonl@-1")
    named_so = put({"prompt": "a", "completion": " b"}, name="a@-1.jsonl")
    assert len(read_demonstrations([named_so, f"{named_so}@2"])) == 3


def test_what_is_not_read_is_said_in_one_line(put, caplog):
    row = {"prompt": "a", "completion": " b", "topic": "x", "id": 3, "seed": 1}
    with caplog.at_level(logging.WARNING, "heedful"):
        read_demonstrations(put(row, row))
    (record,) = caplog.records
    assert record.getMessage().endswith(
        "1 of 2 rows repeat an earlier one; nobody reads the columns topic"
    )
    with pytest.raises(
        UserError, match=r"`completion`.*found prompt, reply.*--columns completion=…"
    ):
        read_demonstrations(put({"prompt": "a", "reply": "b"}))


def test_responses_side_by_side_are_samples(put):
    texts = {"answer1": "x", "answer2": "y"}
    for row in ({"prompt": "a", "responses": ["x", "y"]}, {"prompt": "a", **texts}):
        assert [r["completion"] for r in read_samples(put(row))] == ["x", "y"]
    assert read_samples(put({"prompt": "a", "response": "x"}))[0]["completion"] == "x"
    assert (
        read_samples(put({"prompt": [USER], "completion": [SAID]}))[0]["completion"] == "A robin."
    )


def test_thumbs_by_every_reader_alike(put):
    rows = [
        {"prompt": "a", "completion": c, "label": v}
        for c, v in (("x", True), ("y", 0), ("z", "TRUE"), ("v", 0.0))
    ]
    rows += [{"messages": [USER, SAID], name: True} for name in ("label", "kto_tag")]
    rows.append({"instruction": "a", "output": "b", "kto_tag": False})
    found = [v.desirable for v in read_unpaired(put(*rows))]
    assert found == [True, False, True, False, True, True, False]


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("a.csv", "prompt;completion\nGroß, ja?;nein, nie\n", {"prompt": "Groß, ja?", "completion": "nein, nie"}),
        ("a.tsv", "prompt\tcompletion\na, b;\tc\n", {"prompt": "a, b;", "completion": "c"}),
        ("a.csv", "prompt , completion\na,b\n", {"prompt": "a", "completion": "b"}),
        ("a.jsonl", '[\n {"prompt": "a", "completion": "b"}\n]', {"prompt": "a", "completion": "b"}),
    ],
)  # fmt: skip
def test_tables_as_spreadsheets_write_them(name, text, wanted, put):
    assert [row for _, row in read_rows(put(name=name, text=text))] == [wanted]


@pytest.mark.parametrize("coding", ["utf-16", "utf-8-sig"])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_the_texts_of_spreadsheets_are_read(coding, end, tmp_path):
    """Mutation caught: a mark that becomes part of the first column; lines cut at half a character (U+0A0D has both
    bytes of a line's end); a tab that is no separator."""
    import gzip

    content = "prompt\tcompletion\r\nGrüße\t\u0a0d, ja\r\n".encode(coding)
    path = tmp_path / f"a.csv{end}"
    path.write_bytes(gzip.compress(content) if end else content)
    (row,) = [row for _, row in read_rows(path)]
    assert row == {"prompt": "Grüße", "completion": "\u0a0d, ja"}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "prompt,completion, completion\na,b,c\n", "`completion` is there twice"),
        ("a.jsonl", '{"prompt": "a", "completion": "b", "prompt": "c"}\n', "a.jsonl:1: `prompt` is there twice"),
        ("a.json", '[{"prompt": {"x": 1, "x": 2}}]', "`x` is there twice"),
        ("a.csv", "prompt\nGr\xf6\xdfe\n".encode("cp1252"), "iconv -f cp1252 -t utf-8"),
    ],
)  # fmt: skip
def test_tables_that_say_two_things_or_nothing(name, text, words, put):
    with pytest.raises(UserError, match=words):
        list(read_rows(put(name=name, text=text)))


def test_an_export_without_its_manifest(put):
    """As a browser keeps it. Mutation caught: the ' before a formula stays; an empty number is no number."""
    text = ("prompt,chosen,rejected,strength,seconds,rater,judgment,created_at\n"
            "Sum?,'=1+1,\"'- a\n- b\",,2.5,ada,j1,2026-01-01\n")  # fmt: skip
    (found,) = read_comparisons(put(name="out.csv", text=text))
    assert found.responses == ("=1+1", "- a\n- b")
    assert (found.strength, found.seconds, found.rater) == (None, 2.5, "ada")
    theirs = put(name="own.csv", text="prompt,chosen,rejected\nSum?,'=1+1,x\n")
    assert read_comparisons(theirs)[0].responses[0] == "'=1+1"  # a stranger's own sign


def test_a_text_file_of_prompts_has_one_a_line(put):
    path = put(name="ask.txt", text="Who?\nWhere?\n\nWhy?\n")
    assert read_prompts(path) == ["Who?", "Where?", "Why?"]


def test_several_sources_on_the_command_line_and_in_a_file(tmp_path):
    """Mutation caught: a list of a --config file as one name; an export's share lost."""
    given = [
        "--data",
        "a.jsonl",
        "b.jsonl@0.5",
        "--columns",
        "prompt=q,completion=a",
        "--model",
        "m",
        "--out",
        "o",
    ]
    by_flags = command_line.parse(sft.Config, given, prog="sft").config
    (tmp_path / "c.yaml").write_text(
        "{data: [a.jsonl, b.jsonl@0.5], columns: ['prompt=q,completion=a'], model: m, out: o}"
    )
    by_file = command_line.parse(
        sft.Config, ["--config", str(tmp_path / "c.yaml")], prog="sft"
    ).config
    assert by_flags == by_file and by_flags.data == ("a.jsonl", "b.jsonl@0.5")
    (tmp_path / "c.yaml").write_text("{data: a.jsonl, model: m, out: o, lora: {rank: 2, rank: 4}}")
    with pytest.raises(UserError, match="'rank' is there twice"):
        command_line.parse(sft.Config, ["--config", str(tmp_path / "c.yaml")], prog="sft")
    for data in ("[a.jsonl, {path: b.jsonl, weight: 0.3}]", "{path: b.jsonl, weight: 0.3}"):
        (tmp_path / "c.yaml").write_text(f"{{data: {data}, model: m, out: o}}")
        with pytest.raises(UserError, match=r"'data' holds keys and values.*b\.jsonl@0\.3"):
            command_line.parse(sft.Config, ["--config", str(tmp_path / "c.yaml")], prog="sft")
    assert materialise(by_flags.data, "demonstrations") == by_flags.data
    one = command_line.parse(sft.Config, ["--data", "a", *given[5:]], prog="sft").config
    assert one.data == "a"


def test_rows_that_something_stands_around(put, tmp_path):
    """Mutations caught: the list's key asked for by `--columns`; a traceback for a key that is there twice in JSON
    lines under the name .json; a name on the hub taken for a file."""
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    for key in ("data", "train"):
        with pytest.raises(UserError, match=f"one object, whose `{key}` holds 1 rows"):
            list(read_rows(put({key: [row], "version": 1}, name="rows.json")))
    assert [r for _, r in read_rows(put({"messages": [USER, SAID]}, name="rows.json"))]
    line = json.dumps(row)
    for text in (line[:-1] + ', "chosen": "d"}', line + "\n" + line[:-1] + ', "chosen": "d"}'):
        with pytest.raises(UserError, match="`chosen` is there twice"):
            list(read_rows(put(name="rows.json", text=text)))
    with pytest.raises(
        UserError, match="no such file; a data set of the hub is --data hf:org/name"
    ):
        list(read_rows("org/name"))
    with pytest.raises(UserError, match=r"no such file$"):
        list(read_rows(tmp_path / "rows.jsonl"))
    with pytest.raises(UserError, match=f"or hf:{tmp_path} where it is a data set"):
        list(read_rows(tmp_path))


def test_a_margin_that_nobody_reads_is_told(put, caplog):
    """Mutation caught: TRL's column `margin` left out in silence."""
    with caplog.at_level(logging.WARNING):
        read_comparisons(put({"prompt": "a", "chosen": "b", "rejected": "c", "margin": 1.5}))
    assert "nobody reads the columns margin" in caplog.text


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_messages_that_a_table_keeps_as_text(kind, put, tmp_path):
    """Mutation caught: a model that learns to write the JSON of messages; `messages` refused in a Parquet file, as
    pandas writes them."""
    pair = {
        "chosen": json.dumps([USER, SAID]),
        "rejected": json.dumps([USER, {**SAID, "content": "A tit."}]),
    }
    rows = {"messages": {"messages": json.dumps([USER, SAID])}, "pair": pair}
    for name, row in rows.items():
        if kind == "jsonl":
            put(row, name=f"{name}.jsonl")
        else:
            arrow = pytest.importorskip("pyarrow")
            parquet = pytest.importorskip("pyarrow.parquet")
            parquet.write_table(arrow.Table.from_pylist([row]), tmp_path / f"{name}.parquet")
    (demonstration,) = read_demonstrations(tmp_path / f"messages.{kind}")
    assert (demonstration.prompt, demonstration.completion) == (ASK, "A robin.")
    if kind == "parquet":  # in JSON a text that looks so is one that somebody means
        (one,) = read_comparisons(tmp_path / "pair.parquet")
        assert (one.prompt, one.responses) == (ASK, ("A robin.", "A tit."))
    printed = put({"messages": str([USER, SAID])})
    with pytest.raises(UserError, match="as Python prints them"):
        read_demonstrations(printed)


def test_a_winner_that_is_read_is_not_told_to_be_unread(put, caplog):
    """Mutation caught: `nobody reads the columns preference` of the column that says which response is better."""
    with caplog.at_level(logging.WARNING):
        (one,) = read_comparisons(
            put({"prompt": "q", "response_a": "a", "response_b": "b", "preference": "B"})
        )
    assert one.ranking == (2, 1) and "nobody reads" not in caplog.text
