#!/usr/bin/env python3
"""Worked examples of our own making: documents of many questions of one kind, answered step by step in one layout.

    scripts/worked_examples.py 8e6 > worked.jsonl      # so many letters of text; always the same

None of BBH's tasks is among the kinds (docs/results/tasks.md). Needs Python alone.
"""
import json, random, sys
R = random.Random(7)
NAMES = "Anna Ben Clara David Elena Farid Grace Hugo Ines Jonas Kira Liam Mona Nils Olga Piotr Rosa Sami Tara Umar Vera Wim Yara Zoe".split()
THINGS = "apples pencils books stamps coins tickets shells buttons marbles eggs cakes bottles chairs lamps stones cards".split()
WORDS = ("river stone candle garden window bridge forest mountain letter bottle station blanket market kitchen island thunder "
         "pepper harbor engine ladder copper velvet meadow lantern compass feather orchard pebble saddle anchor whistle basket").split()
def n(a, b): return R.randint(a, b)
def apples():
    p, t, a, b, c = R.choice(NAMES), R.choice(THINGS), n(3, 60), n(2, 40), n(1, 20)
    return (f"{p} has {a} {t}. {p} buys {b} more and gives {c} away. How many {t} does {p} have now?",
            [f"{p} starts with {a} {t}.", f"After buying {b} more there are {a} + {b} = {a+b}.", f"After giving {c} away there are {a+b} - {c} = {a+b-c}."], str(a+b-c))
def total():
    t, k, a = R.choice(THINGS), n(2, 12), n(2, 30)
    e = n(1, 15)
    return (f"There are {k} boxes with {a} {t} each and {e} {t} on the table. How many {t} are there in all?",
            [f"{k} boxes with {a} {t} each hold {k} * {a} = {k*a}.", f"With the {e} on the table that makes {k*a} + {e} = {k*a+e}."], str(k*a+e))
def percent():
    b, p = n(1, 40)*20, R.choice([5, 10, 20, 25, 50])
    return (f"A coat costs {b} euros and is sold for {p}% less. What does it cost now?",
            [f"{p}% of {b} is {b} * {p} / 100 = {b*p//100 if b*p%100==0 else b*p/100}.", f"The new price is {b} - {b*p/100:g} = {b-b*p/100:g}."], f"{b-b*p/100:g}")
def clock():
    h, m, d = n(0, 23), n(0, 59), n(5, 300)
    t = (h*60+m+d) % 1440
    return (f"It is {h:02d}:{m:02d}. What time is it {d} minutes later?",
            [f"{h:02d}:{m:02d} is {h} * 60 + {m} = {h*60+m} minutes after midnight.", f"{d} minutes later it is {h*60+m+d}.", f"That is {t//60} hours and {t%60} minutes."], f"{t//60:02d}:{t%60:02d}")
def lookup():
    k = R.sample(WORDS, n(4, 9)); v = [n(10, 99) for _ in k]; i = n(0, len(k)-1)
    return ("The list says: " + ", ".join(f"{a} is {b}" for a, b in zip(k, v)) + f". What is {k[i]}?",
            [f"We look for {k[i]} in the list.", f"It says that {k[i]} is {v[i]}."], str(v[i]))
def longest():
    k = R.sample(WORDS, n(3, 6)); best = max(k, key=len)
    if sum(len(x) == len(best) for x in k) > 1: return longest()
    return ("Which of these words is the longest: " + ", ".join(k) + "?", [f"{x} has {len(x)} letters." for x in k] + [f"The longest is {best}."], best)
def average():
    c = n(3, 6); k = [n(1, 30) for _ in range(c-1)]; k.append((-sum(k)) % c + c*n(1, 5)); s = sum(k)
    return ("What is the average of " + ", ".join(map(str, k)) + "?", [f"The sum is {' + '.join(map(str, k))} = {s}.", f"There are {c} numbers.", f"{s} / {c} = {s//c}."], str(s//c))
def evens():
    k = [n(1, 99) for _ in range(n(4, 9))]; e = [x for x in k if x % 2 == 0]
    return ("How many of these numbers are even: " + ", ".join(map(str, k)) + "?", [f"{x} is {'even' if x%2==0 else 'odd'}." for x in k] + [f"So {len(e)} of them are even."], str(len(e)))
def sequence():
    a, d = n(1, 40), n(2, 12); k = [a+i*d for i in range(5)]
    return ("What comes next: " + ", ".join(map(str, k)) + "?", [f"From {k[0]} to {k[1]} it is {d}, from {k[1]} to {k[2]} it is {d}.", f"So the next is {k[-1]} + {d} = {k[-1]+d}."], str(k[-1]+d))
def spell():
    w = R.choice(WORDS)
    return (f"Write the word {w} backwards.", ["The letters are " + ", ".join(w) + ".", "Backwards they are " + ", ".join(w[::-1]) + "."], w[::-1])
def vowels():
    w = R.choice(WORDS) + R.choice(WORDS); v = [c for c in w if c in "aeiou"]
    return (f"How many vowels are there in {w}?", ["The letters are " + ", ".join(w) + ".", f"The vowels among them are {', '.join(v)}."], str(len(v)))
def ages():
    p, q = R.sample(NAMES, 2); a, d, y = n(5, 60), n(1, 30), n(1, 20)
    return (f"{p} is {a} years old and {q} is {d} years older. How old will {q} be in {y} years?", [f"{q} is {a} + {d} = {a+d} years old.", f"In {y} years {q} will be {a+d} + {y} = {a+d+y}."], str(a+d+y))
def metres():
    k = n(1, 90); r = n(0, 99)
    return (f"How many centimetres are {k} metres and {r} centimetres?", [f"{k} metres are {k} * 100 = {k*100} centimetres.", f"With {r} more that is {k*100+r}."], str(k*100+r))
def bigger():
    a, b, c, d = n(2, 20), n(2, 20), n(2, 20), n(2, 20)
    if a*b == c*d: return bigger()
    return (f"Which is larger, (A) {a} times {b} or (B) {c} times {d}?", [f"{a} times {b} is {a*b}.", f"{c} times {d} is {c*d}.", f"{max(a*b,c*d)} is larger than {min(a*b,c*d)}."], "(A)" if a*b > c*d else "(B)")
def has():
    k = R.sample(WORDS, n(3, 7)); w = R.choice(WORDS); yes = w in k
    return (f"Is {w} among these words: {', '.join(k)}?", [f"The words are {', '.join(k)}.", f"{w} is {'one' if yes else 'none'} of them."], "yes" if yes else "no")
def remainder():
    a, b = n(10, 200), n(3, 15)
    return (f"What is left when {a} is divided by {b}?", [f"{b} goes {a//b} times into {a}.", f"{a//b} * {b} = {a//b*b}.", f"{a} - {a//b*b} = {a%b}."], str(a % b))
def speed():
    v, t = n(3, 30)*4, n(1, 9)
    return (f"A train travels {v} kilometres per hour for {t} hours and a half. How far does it come?", [f"In {t} hours it comes {v} * {t} = {v*t} kilometres.", f"In half an hour it comes {v} / 2 = {v//2}.", f"Together that is {v*t} + {v//2} = {v*t+v//2}."], str(v*t+v//2))
def common():
    a = R.sample(WORDS, n(3, 5)); x = R.choice(a); b = R.sample([w for w in WORDS if w not in a], n(2, 4)) + [x]; R.shuffle(b)
    return (f"Which word stands in both lists? First: {', '.join(a)}. Second: {', '.join(b)}.", [f"{w} is {'also' if w in b else 'not'} in the second list." for w in a], x)
KINDS = [apples, total, percent, clock, lookup, longest, average, evens, sequence, spell, vowels, ages, metres, bigger, has, remainder, speed, common]
LAYOUTS = [  # (opening of a question, of its answer, joint of steps, last words, between examples)
    ("Q: ", "\nA: Let's think step by step.\n", " ", "So the answer is {}.", "\n\n"),
    ("Q: ", "\nA: ", " ", "So the answer is {}.", "\n\n"),
    ("Question: ", "\nAnswer: ", " ", "The answer is {}.", "\n\n"),
    ("Problem. ", "\nSolution. ", "\n", "Result: {}", "\n\n"),
    ("Exercise: ", "\n- ", "\n- ", "Therefore: {}", "\n\n"),
    ("### ", "\n\n", "\n", "**{}**", "\n\n"),
    ("", "\nWorking: ", " Then: ", "Hence {}.", "\n---\n"),
    ("Task: ", "\nSteps: ", "; ", "Answer = {}", "\n\n"),
]
docs, size = [], 0
want = int(float(sys.argv[1]))
while size < want:
    kind, lay = R.choice(KINDS), R.choice(LAYOUTS + LAYOUTS[:2])
    kinds = [kind] if R.random() < 0.7 else R.sample(KINDS, 3)
    text = ""
    for _ in range(n(6, 60)):
        q, steps, a = R.choice(kinds)()
        text += lay[0] + q + lay[1] + lay[2].join(steps) + lay[2] + lay[3].format(a) + lay[4]
    docs.append(json.dumps({"id": f"worked-{len(docs)}", "source": "made by a program", "text": text.rstrip()})); size += len(text)
print("\n".join(docs))
