"""Generated pictures in the official layouts of ImageNet, COCO, VOC and FSOD: the data of the demo."""
