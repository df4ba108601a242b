"""`python -m app.cli`, for processes that we start ourselves."""

from app.cli import main

if __name__ == "__main__":
    main()
