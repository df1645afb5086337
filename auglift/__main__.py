"""`python -m auglift` is `auglift`."""

from flows.cli import main

if __name__ == "__main__":
    main()
