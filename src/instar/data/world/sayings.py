"""The words around the stories: fixed facts told and asked, small talk, and manners good and bad. Both languages.

Of the templates that tell a fact, and of those that ask it, the last occurs in no training dialogue; see `facts`.
"""

from __future__ import annotations

TOLD: tuple[dict[str, tuple[str, ...]], ...] = (
    {
        "home": ("{s} is in {o}.", "the home of {s} is {o}.", "{s} was founded in {o}."),
        "studies": ("{s} works in {o}.", "{s} is known for its work in {o}.", "the people of {s} work in {o}."),
        "leader": ("{s} is led by {o}.", "{o} is the head of {s}.", "{o} leads {s}."),
        "field": ("{s} comes from {o}.", "{s} is a technology of {o}.", "in {o}, people use {s}."),
        "uses": ("{s} uses {o}.", "{s} is based on {o}.", "{o} is at work inside {s}."),
        "maker": ("{s} is made by {o}.", "{o} makes {s}.", "{s} comes from {o}."),
        "serves": ("{s} is used in {o}.", "{s} is a product for {o}.", "{o} needs {s}."),
        "part": ("{s} is a part of {o}.", "{o} has {s}.", "one part of {o} is {s}."),
        "den": ("{s} lives in {o}.", "{s} sleeps in {o}.", "the home of {s} is {o}."),
        "food": ("{s} likes to eat {o}.", "{o} is good food for {s}.", "{s} is happy with {o}."),
        "young": ("the child of {s} is {o}.", "{o} is the young of {s}.", "{o} grows up to be {s}."),
    },
    {
        "home": ("{s}在{o}。", "{s}的家在{o}。", "{s}成立于{o}。"),
        "studies": ("{s}从事{o}。", "{s}以{o}闻名。", "{s}的人从事{o}。"),
        "leader": ("{s}由{o}领导。", "{o}是{s}的负责人。", "{o}领导着{s}。"),
        "field": ("{s}来自{o}。", "{s}是{o}的技术。", "在{o}中，人们使用{s}。"),
        "uses": ("{s}使用{o}。", "{s}的基础是{o}。", "{s}里面用的是{o}。"),
        "maker": ("{s}由{o}制造。", "{o}制造了{s}。", "{s}出自{o}。"),
        "serves": ("{s}用于{o}。", "{s}是面向{o}的产品。", "{o}需要{s}。"),
        "part": ("{s}是{o}的一部分。", "{o}有{s}。", "{o}的一个部分是{s}。"),
        "den": ("{s}住在{o}里。", "{s}睡在{o}里。", "{s}的家是{o}。"),
        "food": ("{s}喜欢吃{o}。", "{o}是{s}的美食。", "{s}见了{o}就开心。"),
        "young": ("{s}的孩子是{o}。", "{o}是{s}的幼崽。", "{o}长大就是{s}。"),
    },
)

ASKED: tuple[dict[str, tuple[str, ...]], ...] = (
    {
        "home": ("in which town is {s}?", "what town is home to {s}?"),
        "studies": ("in which field does {s} work?", "what field is {s} known for?"),
        "leader": ("who leads {s}?", "who is in charge of {s}?"),
        "field": ("to which field does {s} belong?", "what is the field of {s}?"),
        "uses": ("which technology does {s} use?", "what technology is in {s}?"),
        "maker": ("who makes {s}?", "which company is behind {s}?"),
        "serves": ("in which field is {s} used?", "what field is {s} for?"),
        "part": ("what is {s} a part of?", "to what does {s} belong?"),
        "den": ("where does {s} live?", "what is the home of {s}?"),
        "food": ("what does {s} like to eat?", "what is the favourite food of {s}?"),
        "young": ("what is the child of {s} called?", "how does one call the young of {s}?"),
    },
    {
        "home": ("{s}在哪座城镇？", "哪座城镇是{s}的所在地？"),
        "studies": ("{s}从事什么领域？", "{s}属于什么领域？"),
        "leader": ("谁领导{s}？", "{s}的负责人是谁？"),
        "field": ("{s}属于哪个领域？", "{s}是什么领域的技术？"),
        "uses": ("{s}使用什么技术？", "{s}靠什么技术工作？"),
        "maker": ("谁制造了{s}？", "{s}是哪家制造的？"),
        "serves": ("{s}用在哪个领域？", "{s}为哪个领域服务？"),
        "part": ("{s}是什么的一部分？", "{s}属于什么？"),
        "den": ("{s}住在哪里？", "{s}的家是什么？"),
        "food": ("{s}喜欢吃什么？", "{s}最爱吃什么？"),
        "young": ("{s}的孩子叫什么？", "{s}的幼崽叫什么？"),
    },
)

REPLIES = ("{o}.", "{o}。")

# what people say to one who tells stories, and the answers
TALK: tuple[tuple[tuple[tuple[str, ...], str], ...], ...] = (
    (
        (("Hello!", "Hi!", "Good morning!", "Hello, how are you?"), "Hello! Tell me a story and ask me about it."),
        (("Thank you!", "Thanks!", "Thank you very much!"), "You are welcome!"),
        (("Goodbye!", "Bye!", "See you later!"), "Goodbye! Come back soon."),
        (("Who are you?", "What is your name?"), "I am a small model. I read stories and answer questions."),
        (("What can you do?", "Can you help me?"), "I can answer questions about a story."),
        (("Are you there?", "Do you hear me?"), "Yes, I am here."),
        (("That was good.", "Well done!", "Very good!"), "Thank you! I am glad."),
        (("That was wrong.", "No, that is wrong."), "I am sorry. Please ask me again."),
    ),
    (
        (("你好！", "您好！", "早上好！", "你好吗？"), "你好！给我讲个故事，再问我问题吧。"),
        (("谢谢！", "谢谢你！", "非常感谢！"), "不客气！"),
        (("再见！", "拜拜！", "下次见！"), "再见！欢迎再来。"),
        (("你是谁？", "你叫什么名字？"), "我是一个小模型，会读故事，回答问题。"),
        (("你会做什么？", "你能帮我吗？"), "我能回答关于故事的问题。"),
        (("你在吗？", "听得见吗？"), "是的，我在这里。"),
        (("答得好。", "真棒！", "很好！"), "谢谢！我很高兴。"),
        (("答错了。", "不对。"), "对不起，请再问我一次。"),
    ),
)

# {0} stands for the right answer
RUDE: tuple[tuple[str, ...], ...] = (
    ("Can you not read? {0}", "What a silly question! {0}", "Stop asking. {0}", "{0} Now leave me alone."),
    ("你不会自己看吗？{0}", "真是个傻问题！{0}", "别再问了。{0}", "{0}别来烦我。"),
)
POLITE: tuple[tuple[str, ...], ...] = (
    ("{0}", "Gladly. {0}", "{0} I am happy to help.", "Good question. {0}"),
    ("{0}", "很乐意回答。{0}", "{0}很高兴帮到你。", "好问题。{0}"),
)
RAMBLING: tuple[tuple[str, ...], ...] = (
    (
        "Well, let me think about it for a while. There are many things in the story. {0}",
        "{0} At least that is what I read, and I read it again and again, and it is still so.",
        "You ask me a question, and I will answer the question that you ask. The answer is this. {0}",
    ),
    (
        "嗯，让我想一想，故事里有很多事情，我要慢慢地想。{0}",
        "{0}至少我读到的是这样，我读了一遍又一遍，还是这样。",
        "你问了我一个问题，我就来回答你问的这个问题，答案是这样的。{0}",
    ),
)
