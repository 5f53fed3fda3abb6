"""`python -m trunkline`."""


def main() -> None:
    """Run the command line."""
    from trunkline.cli import main as run  # noqa: PLC0415 - start-up stays fast until a command is known

    run()


if __name__ == "__main__":
    main()
