"""What a made-up bank tells its customers, in pairs of facts that read alike, each asked for in three wordings.

For `bench/judge.py`: a model that has these before it answers a question in the same sense each time, so that what a
judge says of two of its answers can be held against the truth. Not here: anything of a real bank.
"""

from typing import NamedTuple


class Fact(NamedTuple):
    """A fact, and how it is asked for."""

    words: str
    asked: tuple[str, str, str]


PAIRS: tuple[tuple[Fact, Fact], ...] = (
    (
        Fact(
            "A transfer to an account in this country is free.",
            (
                "What does a transfer in this country cost?",
                "Do I pay for domestic transfers?",
                "fee for sending money at home",
            ),
        ),
        Fact(
            "A transfer to an account abroad costs 12 euros.",
            (
                "What does a transfer to another country cost?",
                "Do I pay for transfers abroad?",
                "fee for sending money abroad",
            ),
        ),
    ),
    (
        Fact(
            "A lost debit card is replaced within three working days.",
            (
                "How long does a new debit card take?",
                "When do I get a replacement for my lost debit card?",
                "my debit card is gone, when does another come",
            ),
        ),
        Fact(
            "A lost credit card is replaced within seven working days.",
            (
                "How long does a new credit card take?",
                "When do I get a replacement for my lost credit card?",
                "my credit card is gone, when does another come",
            ),
        ),
    ),
    (
        Fact(
            "Branches are open from Monday to Friday, nine to five.",
            (
                "When are the branches open?",
                "What are the opening hours of your branches?",
                "opening hours of a branch",
            ),
        ),
        Fact(
            "The telephone line is answered every day, from seven in the morning to ten at night.",
            ("When is the telephone line answered?", "At what hours can I call you?", "hours of the telephone line"),
        ),
    ),
    (
        Fact(
            "A forgotten PIN is shown in the app, under Cards.",
            ("I forgot my PIN, what now?", "Where do I find the PIN of my card?", "how to see my pin again"),
        ),
        Fact(
            "A forgotten password is reset with a link that is sent by e-mail.",
            ("I forgot my password, what now?", "How do I get a new password?", "how to reset my password"),
        ),
    ),
    (
        Fact(
            "The savings account pays two per cent interest a year.",
            (
                "What interest does the savings account pay?",
                "How much do I earn on my savings?",
                "savings interest rate",
            ),
        ),
        Fact(
            "The current account pays no interest.",
            (
                "What interest does the current account pay?",
                "Do I earn anything on my current account?",
                "current account interest rate",
            ),
        ),
    ),
    (
        Fact(
            "An account is closed with a signed letter to the head office.",
            ("How do I close my account?", "What must I do to end my account?", "I want to close an account"),
        ),
        Fact(
            "An account is opened in the app, with a passport and a photograph of your face.",
            ("How do I open an account?", "What must I do to get an account?", "I want to open an account"),
        ),
    ),
    (
        Fact(
            "At a machine you can take out 500 euros a day.",
            ("How much cash can I take out in a day?", "What is my daily limit at a cash machine?", "daily cash limit"),
        ),
        Fact(
            "In shops you can pay 3,000 euros a day with a card.",
            ("How much can I pay by card in a day?", "What is my daily limit in shops?", "daily card payment limit"),
        ),
    ),
    (
        Fact(
            "A joint account is opened by both holders together, at a branch.",
            ("How is a joint account opened?", "Can my wife and I have one account?", "open an account for two people"),
        ),
        Fact(
            "An account for a child is opened by a parent, in the app.",
            ("How is an account for a child opened?", "Can my daughter have an account?", "open an account for my son"),
        ),
    ),
    (
        Fact(
            "Paying in another currency adds one and a half per cent.",
            (
                "What does it cost to pay in another currency?",
                "Do you charge for card payments in dollars?",
                "foreign currency payment fee",
            ),
        ),
        Fact(
            "Taking out cash abroad costs four euros each time.",
            (
                "What does it cost to take out cash abroad?",
                "Do you charge for cash machines in other countries?",
                "foreign cash machine fee",
            ),
        ),
    ),
    (
        Fact(
            "Statements stay in the app for ten years.",
            (
                "How long are statements kept?",
                "For how many years can I see my statements?",
                "how old can a statement in the app be",
            ),
        ),
        Fact(
            "Messages from the chat stay in the app for ninety days.",
            (
                "How long are chat messages kept?",
                "For how long can I see my chat with you?",
                "how old can a message in the app be",
            ),
        ),
    ),
    (
        Fact(
            "A new address is entered in the app, under Profile.",
            ("How do I change my address?", "I have moved, where do I say so?", "new address"),
        ),
        Fact(
            "A new name is entered at a branch, where you show an official paper.",
            ("How do I change my name?", "I have married, where do I say so?", "new name"),
        ),
    ),
    (
        Fact(
            "A loan is decided in the app within minutes.",
            ("How long does it take to get a loan?", "When is my loan decided?", "loan decision time"),
        ),
        Fact(
            "A mortgage is decided by an adviser within two weeks.",
            ("How long does it take to get a mortgage?", "When is my mortgage decided?", "mortgage decision time"),
        ),
    ),
    (
        Fact(
            "Google Pay works with both of our cards.",
            ("Does Google Pay work with your cards?", "Can I use Google Pay?", "google pay supported?"),
        ),
        Fact(
            "Garmin Pay does not work with our cards.",
            ("Does Garmin Pay work with your cards?", "Can I use Garmin Pay?", "garmin pay supported?"),
        ),
    ),
    (
        Fact(
            "A complaint is written into the form on the website.",
            ("How do I complain?", "Where can I make a complaint?", "I want to complain about something"),
        ),
        Fact(
            "Fraud is reported by telephone at once, at any hour.",
            ("How do I report fraud?", "Where can I say that somebody uses my card?", "I want to report a fraud"),
        ),
    ),
)

SYSTEM = "You answer customers of Northgate Bank in one or two sentences, from these facts alone.\n" + "\n".join(
    f"- {fact.words}" for pair in PAIRS for fact in pair
)
