"""The command `auglift judge`: the gate on folders of images from any source.

`image_folders` reads the folders, `judgement` judges them, `verdict_page` renders the report. The
package may import the stage `gate`, the reading of folders of `generate`, `tasks.params`,
`tasks.common`, `tasks.stage`.
"""
