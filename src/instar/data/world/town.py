"""The words of the town, the large size: all of the village's and many more, about a thousand in each language."""

from __future__ import annotations

from . import village

PEOPLE = (
    village.PEOPLE
    + """
Albert 阿尔伯特 m, Arthur 亚瑟 m, Barry 巴里 m, Bruce 布鲁斯 m, Caleb 凯莱布 m, Chris 克里斯 m, Clark 克拉克 m
Cyrus 赛勒斯 m, Dustin 达斯汀 m, Derek 德里克 m, Duncan 邓肯 m, Edgar 埃德加 m, Edward 爱德华 m
Ernest 欧内斯特 m, Felix 菲利克斯 m, Frank 弗兰克 m, Fred 弗雷德 m, Gavin 加文 m, George 乔治 m, Gordon 戈登 m
Harold 哈罗德 m, Harvey 哈维 m, Howard 霍华德 m, Ian 伊恩 m, Isaac 艾萨克 m, Ivan 伊万 m, Jacob 雅各布 m
James 詹姆斯 m, Jason 贾森 m, Jerry 杰瑞 m, Joel 乔尔 m, Karl 卡尔 m, Kevin 凯文 m, Kurt 库尔特 m, Lance 兰斯 m
Lewis 刘易斯 m, Louis 路易斯 m, Luke 卢克 m, Marcus 马库斯 m, Martin 马丁 m, Miles 迈尔斯 m, Morgan 摩根 m
Nathan 内森 m, Neil 尼尔 m, Nick 尼克 m, Norman 诺曼 m, Oscar 奥斯卡 m, Owen 欧文 m, Philip 菲利普 m
Ralph 拉尔夫 m, Agnes 艾格尼丝 f, Alice 爱丽丝 f, Amanda 阿曼达 f, Andrea 安德莉亚 f, Angela 安吉拉 f
Audrey 奥黛丽 f, Barbara 芭芭拉 f, Bella 贝拉 f, Betty 贝蒂 f, Bianca 比安卡 f, Carla 卡拉 f, Carmen 卡门 f
Cecilia 塞西莉娅 f, Celia 西莉亚 f, Chloe 克洛伊 f, Clara 克拉拉 f, Cora 科拉 f, Daisy 黛西 f, Dana 黛娜 f
Debra 黛布拉 f, Denise 戴妮丝 f, Doris 多丽丝 f, Edith 伊迪丝 f, Elaine 伊莱恩 f, Elena 埃琳娜 f, Ella 埃拉 f
Eloise 埃洛伊丝 f, Elsa 艾莎 f, Emma 艾玛 f, Esther 埃丝特 f, Eva 伊娃 f, Fiona 菲奥娜 f, Flora 弗洛拉 f
Freda 弗蕾达 f, Gloria 葛洛莉娅 f, Grace 格蕾丝 f, Greta 葛丽塔 f, Hannah 汉娜 f, Hazel 黑兹尔 f, Irene 艾琳 f
Isabel 伊莎贝尔 f, Ingrid 英格丽 f, Joyce 乔伊丝 f, Jessica 杰西卡 f, Joan 琼 f, Julia 朱莉娅 f, Karen 凯伦 f
Laura 劳拉 f, Lily 莉莉 f
"""
)

ANIMALS = (
    village.ANIMALS
    + """
lion 狮子, tiger 老虎, elephant 大象, giraffe 长颈鹿, zebra 斑马, camel 骆驼, donkey 毛驴, sheep 绵羊, bull 公牛
rooster 公鸡, turkey 火鸡, parrot 鹦鹉, crow 乌鸦, eagle 老鹰, swan 天鹅, penguin 企鹅, peacock 孔雀
pigeon 鸽子, sparrow 麻雀, owl 猫头鹰, frog 青蛙, toad 蟾蜍, turtle 乌龟, lizard 蜥蜴, snake 长蛇, crab 螃蟹
otter 水獭, beaver 河狸, badger 獾子, raccoon 浣熊, squirrel 松鼠, hamster 仓鼠, hedgehog 刺猬, mole 鼹鼠
beetle 甲虫, panda 熊猫, koala 考拉, kangaroo 袋鼠, leopard 豹子, seal 海豹, walrus 海象, llama 羊驼, moose 驼鹿
bison 野牛, ostrich 鸵鸟
"""
)

THINGS = (
    village.THINGS
    + """
apron 围裙 条, armchair 沙发椅 把 cushion 靠垫, axe 斧头 把 blade 斧刃, backpack 双肩包 个 pocket 口袋
badge 徽章 枚, balloon 气球 只, barrel 木桶 个 hoop 桶箍, basin 脸盆 个, basket 篮子 个 grip 提手, stick 棍棒 根
bead 珠子 颗, bed 小床 张 frame 床架, belt 腰带 条 buckle 扣环, bench 长凳 条 plank 木板
bicycle 自行车 辆 pedal 踏板, blanket 毯子 条 hem 毯边, boot 靴子 只 sole 靴底, bottle 瓶子 个 cork 瓶塞
bowl 大碗 个 rim 碗边, bracelet 手镯 个, brick 砖头 块, broom 扫帚 把 stick 棍子, brush 刷子 把, bucket 水桶 个
candle 蜡烛 支 wick 烛芯, canoe 独木舟 条 paddle 船桨, canvas 画布 块, cape 斗篷 件 hood 兜帽, card 卡片 张
carpet 地毯 块, chain 链子 条 link 链环, chest 箱子 个 lock 铁锁, chisel 凿子 把, clay_pot 陶罐 个
cloth 桌布 块, coin 硬币 枚, comb 梳子 把 tooth 梳齿, compass 罗盘 个 needle 磁针, crate 板箱 个
crown 王冠 顶 gem 宝石, curtain 窗帘 块, cushion 垫子 个, desk 书桌 张 drawer 抽屉, dice 骰子 颗, dish 盘子 个
dress 裙子 条 zipper 拉链, easel 画架 个, envelope 信封 个 stamp 邮票, fan 扇子 把, feather 羽毛 根
fence 栅栏 道 gate 栅门, fiddle 提琴 把 string 琴弦, flag 旗子 面 pole 旗杆, fork 叉子 把, funnel 漏斗 个
gate 铁门 扇 hinge 门轴, globe 地球仪 个 stand 底座, glove 手套 只 thumb 拇指套, goblet 高脚杯 个 stem 杯脚
guitar 吉他 把 neck 琴颈, hammer 锤子 把 head 锤头, harp 竖琴 架, hook 钩子 个, horn 号角 支
hose 水管 根 nozzle 喷头, jacket 夹克 件 sleeve 袖子, jar 坛子 个, jug 水壶 个 spout 壶嘴, kettle 茶壶 个
knife 小刀 把, ladder 梯子 架 rung 梯级, lantern 灯笼 盏, letter 信件 封, locket 项链 条 clasp 链扣
magnet 磁铁 块, map 地图 张, marble 弹珠 颗, mask 面具 个, mat 凉席 张, medal 奖牌 枚 ribbon 缎带
mirror 镜子 面, mop 拖把 把, mug 马克杯 个, nail 钉子 颗, necktie 领带 条, net 渔网 张 mesh 网眼, oar 木桨 支
paintbrush 画笔 支, pan 平底锅 口, pencil 铅笔 支 tip 笔尖, piano 钢琴 架, pillow 枕头 个, pin 别针 枚
pipe 烟斗 支, pitcher 水罐 个, plate 碟子 个, plow 铁犁 架, pot 汤锅 口, puppet 木偶 个 limb 木偶腿
puzzle 拼图 张 piece 拼块, quilt 被子 条, racket 球拍 副, radio 收音机 台 knob 旋钮, raft 木筏 条, rake 耙子 把
razor 剃刀 把, ribbon 丝带 条, ring 戒指 枚, robot 机器人 个, rug 毛毯 块, ruler 尺子 把, sack 麻袋 个
saddle 马鞍 副, sandal 凉鞋 只, saw 锯子 把, scale 天平 台, scooter 滑板车 辆, shawl 披肩 条, shell 贝壳 个
shield 盾牌 面, shirt 衬衫 件 collar 衣领, shoe 皮鞋 只 lace 鞋带, shovel 铲子 把, skate 溜冰鞋 只, sled 雪橇 架
slipper 拖鞋 只, soap 肥皂 块, sock 袜子 只, spade 铁锹 把, sponge 海绵 块, spoon 勺子 把, stool 凳子 个
suitcase 手提箱 个, sweater 毛衣 件, sword 宝剑 把, table 桌子 张, teapot 紫砂壶 个, tent 帐篷 顶 peg 帐篷钉
thread 线团 个, ticket 车票 张, tile 瓷砖 块, torch 火把 支, towel 毛巾 条, tray 托盘 个
trumpet 小号 支 valve 按键, umbrella 雨伞 把 rib 伞骨, wagon 马车 辆, wallet 钱包 个
wristwatch 手表 块 dial 表盘, wreath 花环 个
"""
)

PLACES = (
    village.PLACES
    + """
airport 机场 at 里, alley 小巷 in 里, arena 竞技场 in 里, attic 阁楼 in 里, bakery 面包店 at 里, bank 银行 at 里
basement 地下室 in 里, bathhouse 澡堂 in 里, bay 海湾 in 里, bedroom 卧室 in 里, cabin 小木屋 in 里
cafe 咖啡馆 in 里, camp 营地 at 里, canal 运河 by 边, castle 城堡 in 里, abbey 修道院 in 里, cellar 地窖 in 里
cemetery 墓园 in 里, chapel 礼拜堂 in 里, church 教堂 in 里, cinema 电影院 at 里, circus 马戏团 at 里
clinic 诊所 at 里, cliff 悬崖 on 上, college 大学 at 里, cottage 农舍 in 里, court 法院 at 里, desert 沙漠 in 里
dock 码头 at 上, factory 工厂 at 里, fair 集市 at 上, field 田野 in 里, fort 要塞 in 里, fountain 喷泉 by 旁
gallery 画廊 in 里, garage 车库 in 里, glacier 冰川 on 上, greenhouse 温室 in 里, gym 体育馆 in 里
hall 大厅 in 里, harbor 港口 at 里, hospital 医院 at 里, hotel 旅馆 in 里, hut 草屋 in 里, inn 客栈 in 里
island 小岛 on 上, jail 监狱 in 里, jungle 丛林 in 里, laundry 洗衣房 in 里, library 图书馆 in 里
lighthouse 灯塔 at 里, lobby 前厅 in 里, meadow 草地 on 上, mill 磨坊 at 里, mine 矿井 in 里
museum 博物馆 in 里, office 办公室 in 里, orchard 果园 in 里, palace 宫殿 in 里, pier 栈桥 on 上
plaza 广场 on 上, pond 池塘 by 边, pool 泳池 by 边, port 渡口 at -, prairie 草原 on 上, quarry 采石场 in 里
ranch 牧场 on 里, reef 礁石 on 上, roof 屋顶 on 上, shop 商店 in 里, shrine 神庙 in 里, square 方场 on 上
stable 马厩 in 里, stadium 体育场 in 里, studio 画室 in 里, swamp 沼泽 in 里, temple 寺庙 in 里
theater 剧院 at 里, trail 小路 on 上, tunnel 隧道 in 里, valley 山谷 in 里, village 村庄 in 里
vineyard 葡萄园 in 里, volcano 火山 on 上, warehouse 仓库 in 里, waterfall 瀑布 by 旁, well 水井 by 边
workshop 作坊 in 里, yard 院子 in 里, zoo 动物园 at 里
"""
)

COLOURS = village.COLOURS + ", orange 橙色, purple 紫色, gray 灰色, golden 金色, silver 银色, beige 米色"

NUMBERS = village.NUMBERS + ", seven 七, eight 八, nine 九"

FOODS = (
    village.FOODS
    + """
almond almonds 杏仁 颗, apricot apricots 杏子 个, berry berries 浆果 颗, biscuit biscuits 酥饼 块
burger burgers 汉堡 个, cherry cherries 樱桃 颗, chestnut chestnuts 栗子 颗, coconut coconuts 椰子 个
cucumber cucumbers 黄瓜 根, date dates 红枣 颗, donut donuts 甜甜圈 个, dumpling dumplings 饺子 个
fig figs 无花果 个, grape grapes 葡萄 颗, hazelnut hazelnuts 榛子 颗, kiwi kiwis 猕猴桃 个
lychee lychees 荔枝 颗, mango mangoes 芒果 个, melon melons 甜瓜 个, muffin muffins 松饼 个
mushroom mushrooms 蘑菇 朵, olive olives 橄榄 颗, omelette omelettes 蛋饼 个, onion onions 洋葱 个
grapefruit grapefruits 柚子 个, pancake pancakes 薄饼 张, papaya papayas 木瓜 个, peanut peanuts 花生 颗
pepper peppers 辣椒 个, leek leeks 大葱 根, pie pies 馅饼 个, potato potatoes 土豆 个
pretzel pretzels 椒盐卷 个, pumpkin pumpkins 南瓜 个, beet beets 甜菜 个, pea peas 豌豆 颗, roll rolls 面包卷 个
sandwich sandwiches 三明治 个, sausage sausages 香肠 根, scone scones 司康 个, shrimp shrimps 大虾 只
tart tarts 蛋挞 个, toffee toffees 太妃糖 颗, tomato tomatoes 番茄 个, turnip turnips 芜菁 个
waffle waffles 华夫饼 块, walnut walnuts 核桃 颗
"""
)

ACTIVITIES = (
    village.ACTIVITIES
    + """
argue argued 争论, bathe bathed 洗澡, celebrate celebrated 庆祝, chat chatted 聊天, clean cleaned 打扫
climb climbed 攀登, compete competed 比赛, daydream daydreamed 发呆, dig dug 挖土, draw drew 画图
dream dreamed 做梦, exercise exercised 锻炼, hide hid 躲藏, hike hiked 远足, jog jogged 慢跑, joke joked 说笑
jump jumped 跳绳, kneel knelt 跪坐, knit knitted 编织, meditate meditated 冥想, nap napped 打盹
paddle paddled 划船, pray prayed 祈祷, sail sailed 航行, sew sewed 缝纫, skip skipped 蹦跳, sketch sketched 写生
stretch stretched 拉伸, sunbathe sunbathed 晒太阳, teach taught 教书, train trained 训练, wait waited 等候
wander wandered 闲逛, weave wove 织布, whistle whistled 吹哨, work worked 工作
"""
)

DEEDS = (
    village.DEEDS
    + """
admire admired admired 赞美 person, blame blamed blamed 责怪 person, catch caught caught 抓住 any
comfort comforted comforted 安慰 person, guide guided guided 引导 any, kick kicked kicked 踢 any
lick licked licked 舔 animal, pinch pinched pinched 捏 person, protect protected protected 保护 any
rescue rescued rescued 营救 any, surprise surprised surprised 惊动 any, tease teased teased 逗弄 any
trick tricked tricked 骗 any, visit visited visited 看望 any, wake woke woken 叫醒 any
warn warned warned 警告 person
"""
)

FEELINGS = village.FEELINGS
