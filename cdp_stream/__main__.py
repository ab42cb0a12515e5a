"""`python -m cdp_stream` is the command line."""

from cdp_stream.cli.main import main

if __name__ == "__main__":
    main()
