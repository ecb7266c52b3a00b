"""The closed lists of words that the guards know: opposites, and kinds of which a question means one and no other.

Not here: how they are used (`words.py`). English, in lower case, without apostrophes. A list holds words that are
seldom anything else: "may" is no month here, "can" no verb of permission. A word that is missing costs a guard, not a
hit.
"""

_OPPOSITES = """
on off, enable disable, enabled disabled, enabling disabling, increase decrease, increasing decreasing, raise lower,
raise reduce, increase reduce, up down, open close, opened closed, opening closing, start stop, start end, begin
end, begin finish, add remove, add delete, adding removing, buy sell, buying selling, bought sold, more less, more
fewer, most least, best worst, better worse, good bad, true false, yes no, with without, high low, higher lower,
highest lowest, big small, bigger smaller, biggest smallest, large small, larger smaller, largest smallest, long
short, longer shorter, longest shortest, hot cold, win lose, winning losing, won lost, love hate, first last, early
late, earliest latest, oldest newest, old new, older newer, left right, upload download, uploading downloading,
import export, importing exporting, send receive, sending receiving, sent received, deposit withdraw, deposits
withdrawals, deposit withdrawal, lock unlock, locked unlocked, install uninstall, installing uninstalling, subscribe
unsubscribe, activate deactivate, block unblock, follow unfollow, mute unmute, connect disconnect, include exclude,
including excluding, accept reject, accept decline, accept refuse, accepted declined, accepted rejected, approve
deny, approve reject, approved denied, allow forbid, allow deny, allow block, allowed forbidden, pros cons,
advantages disadvantages, advantage disadvantage, benefits drawbacks, benefits risks, legal illegal, possible
impossible, gain lose, gaining losing, maximum minimum, max min, maximize minimize, inside outside, indoor outdoor,
north south, east west, male female, men women, man woman, boys girls, boy girl, husband wife, mother father,
brother sister, son daughter, cheap expensive, cheaper dearer, cheapest priciest, rich poor, fast slow, faster
slower, fastest slowest, strong weak, easy hard, easy difficult, easiest hardest, safe dangerous, safe unsafe,
private public, married single, create delete, create destroy, show hide, push pull, encrypt decrypt, encode decode,
compress decompress, serialize deserialize, zip unzip, ascending descending, front back, top bottom, above below,
over under, always never, all none, everyone nobody, freeze unfreeze, credit debit, before after, ahead behind, like
dislike, likes dislikes, happy sad, healthy unhealthy, wet dry, wake sleep, arrive depart, arrival departure,
arrivals departures, arriving departing, incoming outgoing, inbound outbound, join leave, hire fire, lend borrow,
employer employee, landlord tenant, parent child, buyer seller, teacher student, doctor patient, lender borrower,
host guest, sender recipient, winner loser, strengths weaknesses, success failure, succeed fail, pass fail, passed
failed, appear disappear, attach detach, mount unmount, pin unpin, archive unarchive, save delete, save discard,
keep remove, extend shorten, expand collapse, expand shrink, grow shrink, zoom shrink, tighten loosen, warm cool,
heating cooling, heat cool, dawn dusk, sunrise sunset, odd even, positive negative, plus minus, multiply divide,
addition subtraction, input output, source destination, upgrade downgrade, upgrading downgrading, promote demote,
asset liability, assets liabilities, profit loss, profits losses, gross net, supply demand, inhale exhale, offline
online, virtual physical, permanent temporary, permanently temporarily, automatic manual, automatically manually,
single multiple, single joint, domestic international, personal business, mandatory optional, required optional,
visible hidden, full empty, fill empty, thick thin, wide narrow, deep shallow, heavy light, dark light, loud quiet,
tall short, taller shorter, tallest shortest, older younger, oldest youngest, near far, nearest farthest, closest
farthest, gains losses, prevent cause, prevents causes, cure cause, support oppose, attack defend, agree disagree,
trust distrust, rise fall, rising falling, rose fell, ancient modern, past future, previous next, last next, prior
following, raw cooked, guilty innocent, qualified unqualified, paid unpaid, paid free, read unread, used unused,
known unknown, available unavailable, valid invalid, verified unverified, secure insecure, reversible irreversible,
regular irregular, active inactive, direct indirect, complete incomplete, correct incorrect, formal informal,
visible invisible, edible inedible, renewable nonrenewable
"""

_KINDS = """
month: january february march april june july august september october november december jan feb mar apr jun jul aug
  sept oct nov dec
day: monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays fridays
  saturdays sundays weekday weekend weekdays weekends
time: today tomorrow yesterday tonight morning afternoon evening midnight noon daily weekly monthly yearly hourly
  annually quarterly biweekly
season: spring summer autumn winter
unit: celsius fahrenheit kelvin meter meters metre metres kilometer kilometers kilometre kilometres km mile miles
  foot feet inch inches yard yards centimeter centimeters centimetre centimetres cm millimeter millimeters mm kg
  kilogram kilograms gram grams pound pounds ounce ounces stone tonne tonnes liter liters litre litres gallon
  gallons pint pints cup cups teaspoon teaspoons tablespoon tablespoons second seconds minute minutes hour hours
  week weeks fortnight month months year years decade decades century centuries byte bytes kilobyte kilobytes
  megabyte megabytes gigabyte gigabytes terabyte terabytes kb mb gb tb mbps gbps watt watts kilowatt kilowatts joule
  joules calorie calories acre acres hectare hectares knots mph kph psi pascal bar volt volts amp amps hertz degrees
  radians
currency: dollar dollars euro euros yen yuan rupee rupees ruble rubles peso pesos franc francs krona kroner zloty
  lira rand real reais won baht dirham shekel bitcoin ethereum usd eur gbp jpy cny inr chf aud cad sek nok btc eth
language: english french german spanish italian portuguese dutch russian chinese mandarin cantonese japanese korean
  arabic hindi bengali urdu turkish polish swedish norwegian danish finnish greek hebrew latin czech hungarian
  romanian thai vietnamese indonesian malay swahili ukrainian tamil telugu persian farsi icelandic welsh irish
  croatian serbian bulgarian slovak catalan basque
country: afghanistan albania algeria argentina armenia australia austria azerbaijan bangladesh belarus belgium
  bolivia bosnia brazil bulgaria cambodia cameroon canada chile china colombia croatia cuba cyprus denmark ecuador
  egypt england estonia ethiopia finland france georgia germany ghana greece guatemala haiti honduras hungary
  iceland india indonesia iran iraq ireland israel italy jamaica japan jordan kazakhstan kenya kuwait latvia lebanon
  libya lithuania luxembourg malaysia mali malta mexico moldova mongolia morocco mozambique myanmar namibia nepal
  netherlands holland nicaragua niger nigeria norway oman pakistan panama paraguay peru philippines poland portugal
  qatar romania russia rwanda scotland senegal serbia singapore slovakia slovenia somalia spain sudan sweden
  switzerland syria taiwan tanzania thailand tunisia turkey uganda ukraine uruguay uzbekistan venezuela vietnam
  wales yemen zambia zimbabwe usa uk america britain europe asia africa antarctica
city: london paris berlin rome madrid lisbon vienna zurich geneva amsterdam brussels dublin edinburgh manchester
  birmingham oslo stockholm copenhagen helsinki warsaw prague budapest athens istanbul ankara moscow kiev kyiv cairo
  lagos nairobi johannesburg casablanca dubai riyadh doha tehran baghdad jerusalem delhi mumbai bangalore chennai
  kolkata hyderabad karachi lahore dhaka bangkok hanoi jakarta manila singapore beijing shanghai shenzhen guangzhou
  tokyo osaka kyoto seoul busan taipei sydney melbourne brisbane perth auckland wellington toronto montreal
  vancouver ottawa calgary boston chicago dallas houston austin denver seattle portland phoenix miami atlanta
  detroit philadelphia baltimore cleveland minneapolis memphis nashville orlando tampa pittsburgh charlotte lima
  bogota santiago havana caracas quito munich hamburg frankfurt cologne milan naples venice florence barcelona
  seville marseille lyon
programming language: python java javascript typescript rust golang kotlin swift ruby perl php scala haskell erlang
  elixir clojure fortran cobol matlab julia lua bash powershell sql html css c++ c#
system: windows linux macos ubuntu debian fedora android ios iphone ipad chrome firefox safari opera edge
company: google apple microsoft amazon facebook meta netflix tesla twitter nvidia intel amd ibm oracle samsung sony
  toyota honda ford bmw volkswagen siemens nokia boeing airbus uber lyft airbnb spotify youtube instagram whatsapp
  telegram tiktok snapchat linkedin pinterest reddit paypal visa mastercard walmart costco starbucks mcdonalds nike
  adidas pepsi cocacola dell lenovo asus huawei xiaomi alibaba tencent salesforce adobe zoom slack github gitlab aws
  azure gcp openai anthropic
product: mysql postgresql postgres sqlite mongodb redis mariadb cassandra docker kubernetes podman ansible terraform
  jenkins react angular vue svelte django flask fastapi rails spring laravel numpy pandas pytorch tensorflow excel
  powerpoint photoshop gmail outlook
format: json xml yaml toml csv tsv pdf docx xlsx pptx png jpeg jpg gif svg webp mp3 mp4 wav avi mkv zip tar
colour: red blue green yellow orange purple pink black white brown grey gray
planet: mercury venus earth mars jupiter saturn uranus neptune pluto
element: hydrogen helium lithium carbon nitrogen oxygen sodium magnesium aluminum aluminium silicon phosphorus
  sulfur chlorine potassium calcium iron copper zinc nickel silver gold lead tin uranium
animal: dog dogs cat cats horse horses cow cows pig pigs sheep goat goats chicken chickens rabbit rabbits bird birds
  fish hamster hamsters
meal: breakfast lunch dinner supper brunch
relative: mother father brother sister son daughter uncle aunt grandmother grandfather wife husband mom dad
  boyfriend girlfriend
direction: north south east west northern southern eastern western
rank: first second third fourth fifth sixth seventh eighth ninth tenth last largest smallest biggest longest
  shortest highest lowest tallest oldest newest youngest latest earliest fastest slowest cheapest best worst
  average median minimum maximum mean total
action: upload download rename share delete move copy print restore archive edit add remove block unblock invite
  mute unmute ban follow unfollow cancel renew pause resume upgrade downgrade reschedule install uninstall enable
  disable activate deactivate lock unlock encrypt decrypt compress extract import export sort reverse shuffle merge
  split encode decode boil fry bake roast grill steam
operation: sum product difference quotient mean median mode variance maximum minimum factorial sine cosine tangent
  derivative integral logarithm
sorting: bubble merge quick heap insertion selection radix shell
sport: football soccer basketball baseball tennis golf hockey cricket rugby volleyball badminton boxing
instrument: piano guitar violin drums flute cello trumpet saxophone
drug: ibuprofen aspirin paracetamol acetaminophen tylenol advil naproxen amoxicillin penicillin metformin insulin
  codeine morphine xanax prozac zoloft
care: vitamin protein carbohydrate carbohydrates carbs sugar sodium fiber cholesterol
"""

_SAME = """
january jan, february feb, march mar, april apr, june jun, july jul, august aug, september sept, october oct,
november nov, december dec, meter meters metre metres, kilometer kilometers kilometre kilometres km, mile miles,
foot feet, inch inches, yard yards, centimeter centimeters centimetre centimetres cm, millimeter millimeters mm,
kilogram kilograms kg, gram grams, pound pounds, ounce ounces, liter liters litre litres, gallon gallons, pint
pints, cup cups, second seconds, minute minutes, hour hours hourly, week weeks weekly, month months monthly, year
years yearly annually, decade decades, century centuries, byte bytes, kilobyte kilobytes kb, megabyte megabytes mb,
gigabyte gigabytes gb, terabyte terabytes tb, calorie calories, dollar dollars usd, euro euros eur, yen jpy, yuan
cny, rupee rupees inr, peso pesos, franc francs chf, bitcoin btc, ethereum eth, chinese mandarin, persian farsi,
netherlands holland, usa america, uk britain, kiev kyiv, jpeg jpg, gray grey, aluminum aluminium, dog dogs, cat
cats, horse horses, cow cows, pig pigs, goat goats, chicken chickens, rabbit rabbits, bird birds, hamster hamsters,
mother mom, father dad, football soccer, paracetamol acetaminophen tylenol, ibuprofen advil, postgresql postgres,
largest biggest, maximum largest highest, minimum smallest lowest, weekday weekdays, weekend weekends, monday
mondays, tuesday tuesdays, wednesday wednesdays, thursday thursdays, friday fridays, saturday saturdays, sunday
sundays, dinner supper, mean average, last latest, newest latest, newest youngest, ios iphone, evening tonight,
north northern, south southern, east eastern, west western, carbohydrate carbohydrates carbs, watt watts, kilowatt
kilowatts, joule joules, acre acres, hectare hectares, volt volts, amp amps, meta facebook, earliest first, day
daily, delete remove, cancel remove, enable activate, disable deactivate, share copy
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _pairs(lines: str) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for together in lines.replace("\n", " ").split(","):
        words = together.split()
        for word in words:
            found.setdefault(word, set()).update(w for w in words if w != word)
    return {word: frozenset(others) for word, others in found.items()}


OPPOSITES = _pairs(_OPPOSITES)
"""Of a word, those that mean its opposite."""

SAME = _pairs(_SAME)
"""Of a word of a kind, those that mean the same one."""

KINDS: dict[str, frozenset[str]] = {}
"""Of a word, the kinds that it is one of."""
for _line in _KINDS.strip().replace("\n  ", " ").splitlines():
    _kind, _, _of_kind = _line.partition(": ")
    for _word in _of_kind.split():
        KINDS[_word] = KINDS.get(_word, frozenset()) | {_kind}

NEGATIONS = _words(
    """
    not no never without cannot cant dont doesnt didnt isnt arent wasnt werent wont wouldnt couldnt shouldnt
    havent hasnt hadnt mustnt neednt aint none nobody nothing neither nor unable except excluding
    """
)

_SMALL = (
    "zero two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_LARGE = "twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion"
NUMBERS = {
    word: str(number)
    for words, numbers in (
        (_SMALL, (0, *range(2, 20))),
        (_LARGE, (*range(20, 100, 10), 100, 1000, 10**6, 10**9)),
    )
    for word, number in zip(words.split(" "), numbers, strict=True)
}
"""Words that are numbers. "One" is more often no number."""

QUESTIONS = _words(
    """
    what who whom whose when where why how which
    """
)

PERMITS = {"can": "can", "may": "can", "must": "must"}
"""What a modal verb asks for: whether something may or must be."""

ROLES = {
    "from": "from", "to": "to", "into": "to", "before": "before", "after": "after", "than": "than", "by": "by",
    "over": "over", "under": "under", "without": "without", "with": "with",
}  # fmt: skip
"""Words that say what part the next one plays."""

EXCHANGED = frozenset(
    {("from", "to"), ("to", "from"), ("before", "after"), ("after", "before"), ("with", "without"), ("without", "with")}
)
"""Parts that are not the same thing said otherwise."""

COMMON = _words(
    """
    a an the and or but if so as of to in on at by for from with about into over after before under between
    through is am are was were be been being do does did doing done have has had having will would can could
    should shall may might must i me my mine we us our you your yours he him his she her hers it its they them
    their this that these those there here what who whom whose when where why how which not no than then too
    very just also only any some all both each more most im ive id ill whats wheres hows whens whos its thats
    theres youre dont s t re ve ll d m up out off down
    """
)
"""Words that say little of what a text is about."""

LIGHT = _words(
    """
    tell show give explain know want need like please help get find make let say see look go use using used way
    ways thing things something anything someone anyone people best good really actually possible able much many
    lot steps procedure process method list name describe define calculate compute convert write provide teach
    learn understand wondering wonder think question ask hey hi hello thanks thank okay ok now currently there
    instructions guide tips reasons reason meaning mean means happen happens happened kind type sort current
    happening going got take takes work works
    """
)
"""Words with which a question is asked in one way or another."""
