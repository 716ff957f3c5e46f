"""Tables in the formats of other programs and data sets, one module each.

In: files of the JD challenge, COCO, Label Studio, DeepFashion, iMaterialist, Excel, Shopify, Google Merchant.
Out: rows of photos as words, as any other table.
"""
