"""The command `auglift judge`: the gate on two folders of images from any source."""
