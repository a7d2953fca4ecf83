"""The words of the village, the small size. One entry a line; what the columns mean stands in `ontology`."""

PEOPLE = """
Tom 汤姆 m
Jack 杰克 m
Paul 保罗 m
David 大卫 m
Peter 彼得 m
John 约翰 m
Leo 里奥 m
Bob 鲍勃 m
Hugo 雨果 m
Adam 亚当 m
Dan 丹尼 m
Henry 亨利 m
Anna 安娜 f
Kate 凯特 f
Lucy 露西 f
Mary 玛丽 f
Helen 海伦 f
Amy 艾米 f
Jenny 珍妮 f
Susan 苏珊 f
Linda 琳达 f
Sarah 莎拉 f
Judy 朱迪 f
Wendy 温蒂 f
"""

ANIMALS = """
dog 小狗
cat 小猫
fox 狐狸
bear 大熊
rabbit 兔子
horse 小马
cow 奶牛
pig 小猪
goat 山羊
duck 鸭子
goose 大鹅
mouse 老鼠
monkey 猴子
wolf 野狼
deer 小鹿
hen 母鸡
"""

# english, chinese, measure word, then (where the thing has one) a part in both languages
THINGS = """
ball 皮球 个
kite 风筝 只 tail 尾巴
drum 小鼓 面
hat 帽子 顶
cup 杯子 个 handle 把手
notebook 本子 个 cover 封面
box 盒子 个 lid 盖子
bag 背包 个 strap 带子
lamp 台灯 盏 switch 开关
chair 椅子 把 leg 椅腿
bell 铃铛 个
boat 小船 条 sail 船帆
cart 推车 辆 wheel 轮子
coat 外套 件 button 扣子
clock 闹钟 个 hand 指针
doll 娃娃 个 arm 手臂
key 钥匙 把
rope 绳子 根
vase 花瓶 个
flute 笛子 支
"""

# english, chinese, the preposition, the chinese word of place that follows it (- for none)
PLACES = """
garden 花园 in 里
kitchen 厨房 in 里
park 公园 in 里
forest 森林 in 里
market 市场 at 里
school 学校 at 里
lake 湖边 at -
river 河边 by -
hill 山顶 on 上
farm 农场 on 里
barn 谷仓 in 里
cave 山洞 in 里
bridge 大桥 on 上
tower 塔楼 in 里
beach 海滩 on 上
station 车站 at 里
"""

COLOURS = "red 红色, blue 蓝色, green 绿色, yellow 黄色, white 白色, black 黑色, brown 棕色, pink 粉色"

NUMBERS = "two 两, three 三, four 四, five 五, six 六"

# english, plural, chinese, measure word
FOODS = """
apple apples 苹果 个
pear pears 梨子 个
plum plums 李子 个
egg eggs 鸡蛋 个
cake cakes 蛋糕 块
nut nuts 坚果 颗
bun buns 馒头 个
peach peaches 桃子 个
carrot carrots 萝卜 根
lemon lemons 柠檬 个
cookie cookies 饼干 块
banana bananas 香蕉 根
"""

# english, past, chinese
ACTIVITIES = """
sing sang 唱歌
dance danced 跳舞
read read 看书
rest rested 休息
paint painted 画画
sleep slept 睡觉
play played 玩耍
run ran 跑步
write wrote 写字
cook cooked 做饭
walk walked 散步
laugh laughed 大笑
fish fished 钓鱼
study studied 学习
"""

# what one does to another: english, past, participle, chinese, who may do it
DEEDS = """
chase chased chased 追赶 any
bite bit bitten 咬 animal
push pushed pushed 推 any
scare scared scared 吓唬 any
help helped helped 帮助 any
follow followed followed 跟踪 any
watch watched watched 观察 any
hug hugged hugged 拥抱 person
"""

FEELINGS = "sad 难过, angry 生气, happy 高兴, proud 自豪, afraid 害怕, upset 伤心"
