"""中文：每种事件的句式、问题和回答。Chinese sentences, questions and answers; frame by frame what `english` has.

The last template of a frame is held out here too.
"""

from __future__ import annotations

LEADS = {
    "day": "有一天，", "morning": "一天早上，", "spring": "春天的一天，",
    "then": "然后，", "later": "后来，", "after": "在那之后，", "soon": "不久，",
}  # fmt: skip

# the words of the templates, which `world:words` lists beside the names
WORDS = (
    "有一天", "一天", "早上", "春天", "然后", "后来", "之后", "不久", "接着", "最后", "现在", "因为", "所以",
    "但是", "可是", "虽然", "而是", "之所以", "是因为", "没有", "只好", "其实", "一起", "一共", "四处", "看看",
    "找到", "发现", "拥有", "喜欢", "带着", "主人", "拿起", "放在", "放下", "留在", "带到", "搬到", "抱起", "运到",
    "送给", "交给", "得到", "拿走", "跑开", "偷走", "看见", "希望", "来到", "第一个", "更早", "更晚", "吃掉",
    "坐在", "饿了", "修好", "修理", "坏了", "弄丢", "弄坏", "感到", "为什么", "什么", "哪里", "地方", "那里",
    "手里", "颜色", "东西", "不知道", "是的", "不是",
)  # fmt: skip

SENTENCES: dict[str, tuple[str, ...]] = {
    "find": (
        "{a}在{p.in}找到了{x}。",
        "在{p.in}，{a}找到了{x}。",
        "{x.d}在{p.in}被{a}找到了。",
        "{a}四处看看，在{p.in}找到了{x}。",
        "{a}在{p.in}发现了{x}。",
    ),
    "own": (
        "{a}有{x}和{y}。",
        "{a}拥有{x}和{y}。",
        "{x.d}和{y.d}都是{a}的。",
        "{a}喜欢带着{x}和{y}。",
        "{x.d}和{y.d}的主人是{a}。",
    ),
    "put": (
        "{a}把{x.d}放在{p.in}。",
        "{a}拿起{x}，放在了{p.in}。",
        "{x.d}被{a}放在了{p.in}。",
        "在{p.in}，{a}放下了{x}。",
        "{a}把{x.d}留在了{p.in}。",
    ),
    "carry": (
        "{a}把{x.d}带到{p.in}。",
        "{a}把{x.d}搬到了{p.in}。",
        "{x.d}被{a}带到了{p.in}。",
        "{a}抱起{x}，带到了{p.in}。",
        "{a}将{x.d}运到了{p.in}。",
    ),
    "give": (
        "{a}给了{b}{x}。",
        "{a}把{x.d}给了{b}。",
        "{x.d}被{a}送给了{b}。",
        "{b}从{a}那里得到了{x}。",
        "{a}将{x.d}交给了{b}。",
    ),
    "take": (
        "{a}从{b}那里拿走了{x}。",
        "{b}的{x.cn}被{a}拿走了。",
        "{b}有{x}，但是{a}把它拿走了。",
        "{a}拿走了{b}的{x.cn}，跑开了。",
        "{a}偷走了{b}的{x.cn}。",
    ),
    "meet": (
        "{a}在{p.in}{v}了{b}。",
        "{b}在{p.in}被{a}{v}了。",
        "在{p.in}，{a}{v}了{b}。",
        "{a}在{p.in}看见{b}，就{v}了{b.him}。",
        "在{p.in}{v}了{b}的是{a}。",
    ),
    "want": (
        "{a}想去{p}{v}，但是{a.he}去了{q}。",
        "{a}去了{q}，但是{a.he}想去{p}{v}。",
        "{a}希望去{p}{v}，可是{a.he}只好去了{q}。",
        "{a}去了{q}，虽然{a.he}想去{p}{v}。",
        "{a}没有去{p}{v}，而是去了{q}。",
    ),
    "gather": (
        "{a}在{p.in}{v}。",
        "在{p.in}，{a}都在{v}。",
        "{a}来到{p.in}{v}。",
        "{a}在{p.in}一起{v}。",
        "{a}去{p}{v}了。",
    ),
    "order": (
        "{a}比{b}先在{p.in}{v}。",
        "{b}在{a}之后去{p}{v}。",
        "{a}先在{p.in}{v}，然后是{b}。",
        "{b}比{a}晚去{p}{v}。",
        "{a}第一个在{p.in}{v}，接着是{b}。",
    ),
    "eat": (
        "{a}在{p.in}吃了{n}{g.m}{g}。",
        "在{p.in}，{a}吃了{n}{g.m}{g}。",
        "{n}{g.m}{g}在{p.in}被{a}吃掉了。",
        "{a}坐在{p.in}，吃了{n}{g.m}{g}。",
        "{a}饿了，在{p.in}吃了{n}{g.m}{g}。",
    ),
    "fix": (
        "{a}在{p.in}修好了{x.cn}的{w}。",
        "在{p.in}，{a}修好了{x.cn}的{w}。",
        "{x.cn}的{w}在{p.in}被{a}修好了。",
        "{x.cn}的{w}坏了，所以{a}在{p.in}修好了它。",
        "{a}在{p.in}把{x.cn}的{w}修理好了。",
    ),
}

CAUSES: dict[str, tuple[str, str]] = {
    "lose": ("{a.he}弄丢了{x.the}", "{a}弄丢了{x.the}"),
    "break": ("{a.he}弄坏了{x.the}", "{a}弄坏了{x.the}"),
    "spoil": ("{b}弄坏了{a.his}{x.cn}", "{b}弄坏了{a}的{x.cn}"),
    "make": ("{a.he}做了{x.a}", "{a}做了{x.a}"),
    "buy": ("{a.he}买了{x.a}", "{a}买了{x.a}"),
    "see": ("{a.he}在{p.in}看见了{b}", "{a}在{p.in}看见了{b}"),
}
FEELINGS = (
    "{a}很{f}，因为{0}。",
    "{1}，所以{a.he}很{f}。",
    "{a}感到很{f}，因为{0}。",
    "因为{1}，所以{a.he}很{f}。",
    "{a}之所以{f}，是因为{0}。",
)

QUESTIONS: dict[str, tuple[str, ...]] = {
    "who-find": ("谁找到了{x.bare}？", "{x.bare}是谁找到的？"),
    "who-put": ("谁把{x.bare}放在{p.in}？", "{x.bare}是谁放在{p.in}的？"),
    "who-carry": ("谁把{x.bare}带到{p.in}？", "{x.bare}是谁带到{p.in}的？"),
    "who-give": ("谁把{x.bare}给了{b}？", "{b}从谁那里得到了{x.bare}？"),
    "who-take": ("谁拿走了{x.bare}？", "谁拿走了{b}的{x.bare}？"),
    "who-meet": ("谁{v}了{b}？", "{b}被谁{v}了？"),
    "who-eat": ("谁吃了{g}？", "{g}被谁吃掉了？"),
    "who-fix": ("谁修好了{x.bare}？", "{x.bare}是谁修好的？"),
    "who-want": ("谁想去{v}？", "谁希望去{v}？"),
    "who-feel": ("谁很{f}？", "谁感到很{f}？"),
    "whom-give": ("{a}把{x.bare}给了谁？", "谁从{a}那里得到了{x.bare}？"),
    "whom-take": ("{a}从谁那里拿走了{x.bare}？", "{a}拿走了谁的{x.bare}？"),
    "whom-meet": ("{a}{v}了谁？", "谁被{a}{v}了？"),
    "where-thing": ("{x.bare}在哪里？", "{x.bare}现在在哪里？", "现在{x.bare}在什么地方？"),
    "where-find": ("{a}在哪里找到了{x.bare}？", "{x.bare}是在哪里找到的？"),
    "where-meet": ("{a}在哪里{v}了{b}？", "{b}在哪里被{a}{v}了？"),
    "where-eat": ("{a}在哪里吃了{g}？", "{g}是在哪里吃掉的？"),
    "where-gather": ("{m}在哪里{v}？", "{m}在什么地方{v}？"),
    "has-who": ("谁有{x.bare}？", "现在谁有{x.bare}？", "{x.bare}现在在谁手里？"),
    "has-what": ("{a}有什么？", "{a}手里有什么？"),
    "why": ("{a}为什么{f}？", "为什么{a}很{f}？"),
    "wanted": ("{a}想去哪里？", "{a}想去哪里{v}？"),
    "went": ("{a}去了哪里？", "{a}其实去了哪里？"),
    "colour": ("{x.bare}是什么颜色的？", "{x.bare}是什么颜色？", "{x.bare}的颜色是什么？"),
    "count-people": ("有几个人{v}？", "有几个人在{p.in}{v}？"),
    "count-food": ("{a}吃了几{g.m}{g}？", "一共吃了几{g.m}{g}？"),
    "is-there": ("{x.bare}在{z.in}吗？", "{x.bare}现在在{z.in}吗？"),
    "does-have": ("{z}有{x.bare}吗？", "{x.bare}现在在{z}手里吗？"),
    "did-meet": ("{a}{v}了{z}吗？", "{a}{v}的是{z}吗？"),
    "first": ("谁先{v}？", "谁更早{v}？", "第一个{v}的是谁？"),
    "last": ("谁最后{v}？", "谁更晚{v}？", "最后{v}的是谁？"),
    "hop-find": ("谁有{a}找到的东西？", "{a}找到的东西在谁手里？"),
    "hop-went": ("{x.bare}的主人去了哪里？", "有{x.bare}的人去了哪里？"),
}

ANSWERS: dict[str, str] = {
    "name": "{z}。",
    "in": "在{z.in}。",
    "to": "{z}。",
    "thing": "{z.bare}。",
    "colour": "{z.colour}。",
    "people": "{n}个。",
    "food": "{n}{g.m}。",
    "lose": "因为{a.he}弄丢了{x.n}。",
    "break": "因为{a.he}弄坏了{x.n}。",
    "spoil": "因为{b}弄坏了{a.his}{x.n}。",
    "make": "因为{a.he}做了{x.n}。",
    "buy": "因为{a.he}买了{x.n}。",
    "see": "因为{a.he}看见了{b}。",
    "yes": "是的。",
    "no": "不是。",
    "unknown": "我不知道。",
}
