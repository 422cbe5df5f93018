// What the page says, in English and Chinese.

const WORDS = {
  en: {
    skip: "Skip to the clips", theme: "Light or dark", help: "Keys", funnel: "What became of the videos", thresholds: "Thresholds",
    commands: "Make it so", marks: "Marks", gallery: "Clips", language: "中文", add: "Another score…", least: "lowest {name}", most: "highest {name}",
    clips: "{n} clips", hours: "{n} h", minutes: "{n} min", seconds: "{n} s", summary: "{kept} of {count} clips kept ({share}), {hours}",
    sources: "sources", shots: "shots", "step-clips": "clips", kept: "kept", captioned: "captioned", dropped: "−{n}", where: "condition", excluded: "marked",
    failed: "{n} failed: {error}", missing: "no {name}", below: "{name} below {low}", above: "{name} above {high}", column: "step", n: "clips", length: "length", lost: "dropped",
    near: "Nearest to the thresholds", reset: "As it was", none: "none", noScore: "{n} without a value", copy: "Copy", copied: "Copied",
    filterLine: "The filter, at once:", stageLine: "Stage 2, which also computes scores that are missing:",
    lacking: "{n} clips pass what comes before and have no {name}; stage 2 computes it where it can.",
    saveMarks: "Save marks.jsonl", loadMarks: "Load marks", clearMarks: "Forget marks", keepStars: "Keep starred clips whatever the filters say", marked: "{drop} to drop, {star} starred",
    noStorage: "This browser keeps no marks for files; save them before you close the page.", saveFirst: "The commands read your marks from {path}: save them there.",
    refreshLine: "Then make this page again, and reload it:", reload: "It makes this page again at its end: reload it.",
    captions: "Captions", saveCaptions: "Save captions.jsonl", loadCaptions: "Load captions", clearCaptions: "Forget edits", edited: "{n} edited", editCaption: "Edit the caption",
    captionsLine: "Open a clip to edit its caption. Save captions.jsonl as {path}; stage 3 then takes it:", noClip: "give no clip (too short, or their source failed)", placeholder: "placeholder", placeholders: "placeholders, made of measurements; do not train on them",
    all: "all", droppedClips: "dropped", keptClips: "kept", stars: "starred", markedDrop: "to drop", search: "Search captions and paths", sort: "Sort by", order: "order of the list",
    rising: "rising", falling: "falling", showing: "{n} clips", nearNote: "Nearest to the thresholds of {name}, {bounds}: by turns one that passes (green edge) and one that does not", play: "Open the clip {path}",
    close: "Close", noPlay: "The browser cannot play {path}.", neighbours: "Clips of the same source", scores: "Values", caption: "Caption", source: "Source", span: "Span", why: "Why it is dropped", isKept: "This clip is kept.",
    drop: "Drop (x)", star: "Star (s)", undo: "Undo (u)", onlyHere: "only in {name}", both: "kept in both", condition: "Condition", useWhere: "only clips for which {where}",
    reasons: "blurry|text|watermark|cut|dull|other", nothing: "No clip is shown. Widen the thresholds or clear the search.",
    keys: "j / k|next, previous clip\nEnter|open the clip\nx|mark to drop\ns|star\n1 … 6|reason: blurry, text, watermark, cut, dull, other\nu|undo a mark\n/|search\n?|this list\nEsc|close\n← → on a slider|one step; PageUp, PageDown ten; Home, End no bound",
    compared: "Compared with {name}", dataset: "Dataset", unit: "{value}",
  },
  zh: {
    skip: "跳到片段", theme: "浅色或深色", help: "快捷键", funnel: "视频的去向", thresholds: "阈值",
    commands: "执行此选择", marks: "标记", gallery: "片段", language: "English", add: "其他分数…", least: "{name} 下限", most: "{name} 上限",
    clips: "{n} 个片段", hours: "{n} 小时", minutes: "{n} 分钟", seconds: "{n} 秒", summary: "保留 {kept} / {count} 个片段（{share}），{hours}",
    sources: "源视频", shots: "镜头", "step-clips": "片段", kept: "保留", captioned: "已描述", dropped: "−{n}", where: "条件", excluded: "已标记去掉",
    failed: "{n} 个失败：{error}", missing: "没有 {name}", below: "{name} 低于 {low}", above: "{name} 高于 {high}", column: "步骤", n: "片段", length: "时长", lost: "去掉",
    near: "最接近阈值的片段", reset: "恢复", none: "无", noScore: "{n} 个没有数值", copy: "复制", copied: "已复制",
    filterLine: "过滤，立即完成：", stageLine: "阶段 2，同时补算缺少的分数：",
    lacking: "{n} 个片段通过了前面的过滤但没有 {name}；阶段 2 会尽量计算。",
    saveMarks: "保存 marks.jsonl", loadMarks: "读取标记", clearMarks: "清除标记", keepStars: "加星的片段一律保留", marked: "去掉 {drop} 个，加星 {star} 个",
    noStorage: "此浏览器不为文件保存标记；关闭页面前请先保存。", saveFirst: "命令从 {path} 读取标记：请保存到该处。",
    refreshLine: "然后重新生成本页并刷新：", reload: "结束时会重新生成本页：请刷新。",
    captions: "描述", saveCaptions: "保存 captions.jsonl", loadCaptions: "读取描述", clearCaptions: "清除修改", edited: "已修改 {n} 个", editCaption: "修改描述",
    captionsLine: "打开片段即可修改描述。请将 captions.jsonl 保存为 {path}，阶段 3 会采用：", noClip: "没有切出片段（太短，或源视频失败）", placeholder: "占位", placeholders: "占位描述，由测量值拼成；请勿用于训练",
    all: "全部", droppedClips: "去掉的", keptClips: "保留的", stars: "加星的", markedDrop: "标记去掉的", search: "搜索描述和路径", sort: "排序", order: "列表顺序",
    rising: "升序", falling: "降序", showing: "{n} 个片段", nearNote: "最接近 {name} 阈值（{bounds}）的片段：通过（绿边）与未通过交替排列", play: "打开片段 {path}",
    close: "关闭", noPlay: "浏览器无法播放 {path}。", neighbours: "同一源视频的片段", scores: "数值", caption: "描述", source: "源视频", span: "时间段", why: "去掉的原因", isKept: "此片段被保留。",
    drop: "去掉 (x)", star: "加星 (s)", undo: "撤销 (u)", onlyHere: "仅在 {name} 中", both: "两者都保留", condition: "条件", useWhere: "只保留满足 {where} 的片段",
    reasons: "模糊|文字|水印|切换|单调|其他", nothing: "没有片段。请放宽阈值或清除搜索。",
    keys: "j / k|下一个、上一个片段\nEnter|打开片段\nx|标记去掉\ns|加星\n1 … 6|原因：模糊、文字、水印、切换、单调、其他\nu|撤销标记\n/|搜索\n?|本列表\nEsc|关闭\n滑块上的 ← →|一步；PageUp、PageDown 十步；Home、End 无界",
    compared: "与 {name} 比较", dataset: "数据集", unit: "{value}",
  },
};
export const REASONS = ["blurry", "text", "watermark", "cut", "dull", "other"]; // as the marks file has them

let language = navigator.language?.toLowerCase().startsWith("zh") ? "zh" : "en";
/** What a column means, where it says so. */
export const meaningOf = (column) => (language === "zh" && column.meaning_zh) || column.meaning;
export const current = () => language;
export const switchLanguage = () => (language = language === "en" ? "zh" : "en");

/** A sentence with its {places} filled. */
export const say = (key, places = {}) => (WORDS[language][key] ?? key).replace(/\{(\w+)\}/g, (_, name) => places[name] ?? "");
export const number = (value, digits = 0) => new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
export const precise = (value) => new Intl.NumberFormat(language, { maximumSignificantDigits: 5 }).format(value);
export const share = (value) => new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 }).format(value);
export const duration = (seconds) =>
  seconds === null || seconds === undefined ? "" : seconds >= 3600 ? say("hours", { n: number(seconds / 3600, 1) }) : seconds >= 60 ? say("minutes", { n: number(seconds / 60, 1) }) : say("seconds", { n: number(seconds, 1) });
