"""The fixed facts: who makes a product, what it uses, the field of a technology, the home of an organisation and so on.

They hold in every story. Pretraining tells all of them; dialogues ask nine tenths, and a test asks the rest in wording
that no training text has. Everything here is invented, but for what everybody knows of wheels and hens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from .ontology import Entity
from .split import is_held_out

# english, chinese, home town, its chinese, field, leader, its chinese
ORGANISATIONS = """
Star Lab|星光实验室|Northport|北港|astronomy|Ada Frost|弗罗斯特
Oak House|橡树书社|Elmton|榆镇|printing|Ned Page|佩奇
River Works|河川工厂|Millford|磨溪|engineering|Nora Reed|里德
Blue Clinic|蓝天诊所|Southbay|南湾|medicine|Ivan Heal|希尔
Green Field|绿野公司|Hayfield|草原镇|farming|Dora Root|鲁特
Sky Union|云天联盟|Highcliff|高崖|transport|Otto Wing|温格
Bright Lamp|明灯公司|Eastgate|东门|energy|Vera Spark|斯帕克
Silver Bell|银铃工坊|Westhill|西岭|music|Carl Tune|图恩
Stone Bridge|石桥集团|Stonewall|石城|building|Rita Brick|布里克
Sea Glass|海玻璃厂|Pearlton|珠镇|chemistry|Lars Salt|索尔特
Red Thread|红线织造|Woolton|棉镇|weaving|Mina Silk|西尔克
Open Mind|开智学院|Bookham|书乡|computing|Alan Byte|拜特
"""

# english, chinese, field
TECHNOLOGIES = """
star map|星图技术|astronomy
mirror lens|镜面透镜|astronomy
ink press|油墨印刷|printing
page scan|页面扫描|printing
water wheel|水轮技术|engineering
steam pump|蒸汽泵|engineering
gear chain|齿轮链|engineering
heart sensor|心跳传感|medicine
warm patch|热敷技术|medicine
sound scan|超声扫描|medicine
drip line|滴灌技术|farming
seed bank|种子库|farming
soil test|土壤检测|farming
air brake|气动刹车|transport
route plan|路线规划|transport
sun panel|太阳能板|energy
wind mill|风力发电|energy
heat store|储热技术|energy
sound box|共鸣箱|music
tone filter|音调滤波|music
dry wall|干砌墙|building
arch frame|拱形框架|building
glass melt|玻璃熔炼|chemistry
salt cell|盐电池|chemistry
cold dye|冷染技术|weaving
fast loom|快速织机|weaving
word model|语言模型|computing
face match|人脸识别|computing
data lock|数据加密|computing
voice match|语音识别|computing
"""

FIELDS = """
astronomy|天文学
printing|印刷业
engineering|工程学
medicine|医学
farming|农业
transport|交通业
energy|能源业
music|音乐
building|建筑业
chemistry|化学
weaving|纺织业
computing|计算机科学
"""

# english, chinese; the maker and the technology follow from their places in the lists, see `products`
PRODUCTS = """
Moon Glass|月亮镜
Night Eye|夜眼镜
Quick Print|快印机
Paper Cat|纸猫机
Mill Boy|磨坊宝
Rain Pump|雨水泵
Iron Hand|铁手
Heart Watch|心跳表
Warm Belt|暖腰带
Baby Sound|宝宝听
Garden Drop|花园滴
Seed Box|种子箱
Soil Pen|土壤笔
Safe Stop|安停
Way Finder|寻路仪
Sun Roof|阳光顶
Wind Cup|风杯
Hot Brick|热砖
Song Chest|歌箱
Clear Tone|清音
Easy Wall|易墙
Moon Gate|月门
Snow Glass|雪花杯
Sea Light|海灯
Rain Coat|彩雨衣
Swift Cloth|飞布
Tale Teller|故事机
Face Door|认脸门
Secret Bag|密语包
Hello Key|你好锁
Comet Tube|彗星筒
Dawn Map|黎明图
Story Press|故事印
Leaf Scan|叶片扫
Creek Wheel|小溪轮
Cloud Kettle|云水壶
Twin Gear|双齿轮
Calm Ring|静心环
Soft Patch|软贴
Belly Drum|腹鼓
Vine Line|藤蔓管
Barn Bank|粮仓库
Root Meter|根须表
Gentle Brake|轻刹
Path Star|路星
Roof Leaf|屋叶
Hill Fan|山风扇
Winter Jar|冬罐
Echo Case|回声盒
Pure Voice|纯声
"""

# a part, its chinese, the whole, its chinese
PARTS = """
wheel|轮子|cart|推车
sail|船帆|boat|小船
lid|盖子|box|盒子
button|扣子|coat|外套
strap|带子|bag|背包
tail|尾巴|kite|风筝
hand|指针|clock|闹钟
switch|开关|lamp|台灯
cover|封面|notebook|本子
handle|把手|cup|杯子
leaf|叶子|tree|大树
roof|屋顶|house|房子
key|琴键|piano|钢琴
string|琴弦|violin|小提琴
page|书页|book|图书
petal|花瓣|flower|鲜花
feather|羽毛|bird|小鸟
fin|鱼鳍|fish|小鱼
step|台阶|stair|楼梯
engine|发动机|train|火车
wing|机翼|plane|飞机
blade|刀刃|knife|小刀
branch|树枝|bush|灌木
crust|面皮|pie|馅饼
lens|镜片|camera|相机
mast|桅杆|ship|大船
pillow|枕头|bed|小床
sole|鞋底|shoe|鞋子
stone|石头|wall|墙壁
tooth|梳齿|comb|梳子
"""

# an animal, its chinese, its home, its food, its young, each with its chinese
ANIMALS = """
dog|小狗|kennel|狗窝|bone|骨头|puppy|狗崽
cat|小猫|basket|猫篮|fish|小鱼|kitten|猫崽
fox|狐狸|den|兽穴|egg|鸡蛋|cub|狐崽
rabbit|兔子|burrow|地洞|carrot|萝卜|bunny|兔崽
horse|小马|stable|马厩|hay|干草|foal|马驹
cow|奶牛|shed|牛棚|grass|青草|calf|牛犊
pig|小猪|sty|猪圈|corn|玉米|piglet|猪崽
hen|母鸡|coop|鸡舍|seed|种子|chick|小鸡
duck|鸭子|pond|池塘|snail|蜗牛|duckling|小鸭
goose|大鹅|yard|院子|reed|芦苇|gosling|小鹅
goat|山羊|pen|羊圈|leaf|叶子|kid|羊羔
monkey|猴子|tree|大树|banana|香蕉|baby monkey|小猴
bear|大熊|cave|山洞|berry|浆果|bear cub|熊崽
wolf|野狼|lair|狼穴|bone|骨头|wolf cub|狼崽
mouse|老鼠|hole|鼠洞|cheese|奶酪|baby mouse|幼鼠
deer|小鹿|wood|树林|moss|苔藓|fawn|鹿崽
owl|猫头鹰|nest|鸟巢|mouse|老鼠|owlet|幼鸮
bee|蜜蜂|hive|蜂箱|honey|蜂蜜|larva|幼蜂
"""


@dataclass(frozen=True, slots=True, eq=False)
class Fact:
    """A fixed fact: `roles["s"]` stands in `relation` to `roles["o"]`, the answer when one asks."""

    relation: str
    roles: dict[str, Entity]

    @property
    def held_out(self) -> bool:
        """Whether only a test asks it."""
        return is_held_out(f"{self.relation}|{self.roles['s'].key}")


def rows(table: str) -> list[list[str]]:
    return [line.split("|") for line in table.strip().splitlines()]


def named(kind: str, en: str, zh: str) -> Entity:
    """Proper names and fields stand bare; common nouns take an article in English."""
    common = kind in ("technology", "thing", "part", "animal", "place")
    article = "an" if en[0] in "aeiou" else "a"
    whole = f"the {en}" if kind == "technology" else f"{article} {en}" if common and en.islower() else en
    return Entity(en.lower(), kind, ({"": whole, "name": en}, {"": zh, "name": zh}))


@cache
def facts() -> tuple[Fact, ...]:
    """All fixed facts, about three hundred, in one order."""
    fields = {en: named("field", en, zh) for en, zh in rows(FIELDS)}
    made: list[Fact] = []

    def fact(relation: str, subject: Entity, answer: Entity) -> None:
        made.append(Fact(relation, {"s": subject, "o": answer}))

    makers: dict[str, Entity] = {}
    for en, zh, town, town_zh, field, leader, leader_zh in rows(ORGANISATIONS):
        makers[field] = organisation = named("organisation", en, zh)
        fact("home", organisation, named("place", town, town_zh))
        fact("studies", organisation, fields[field])
        fact("leader", organisation, named("person", leader, leader_zh))
    technologies = [(named("technology", en, zh), field) for en, zh, field in rows(TECHNOLOGIES)]
    for technology, field in technologies:
        fact("field", technology, fields[field])
    for at, (en, zh) in enumerate(rows(PRODUCTS)):
        product = named("product", en, zh)
        technology, field = technologies[at % len(technologies)]
        fact("uses", product, technology)
        fact("maker", product, makers[field])
        fact("serves", product, fields[field])
    for part, part_zh, whole, whole_zh in rows(PARTS):
        fact("part", named("part", part, part_zh), named("thing", whole, whole_zh))
    for en, zh, *rest in rows(ANIMALS):
        beast = named("animal", en, zh)
        for relation, kind, at in (("den", "place", 0), ("food", "thing", 2), ("young", "animal", 4)):
            fact(relation, beast, named(kind, rest[at], rest[at + 1]))
    return tuple(made)


@cache
def by_relation() -> dict[str, tuple[Fact, ...]]:
    grouped: dict[str, list[Fact]] = {}
    for fact in facts():
        grouped.setdefault(fact.relation, []).append(fact)
    return {relation: tuple(group) for relation, group in grouped.items()}


@cache
def answers(relation: str) -> tuple[Entity, ...]:
    """Everything that answers a question of the relation, each once."""
    distinct = {fact.roles["o"].key: fact.roles["o"] for fact in by_relation()[relation]}
    return tuple(distinct.values())
