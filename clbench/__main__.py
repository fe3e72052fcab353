"""``python -m clbench``, and the entry point of the `clbench` command."""


def main() -> None:
    """Run the command line. Ctrl-C while that is still imported ends with 130 as well: nothing was begun, so nothing is said."""
    try:
        from clbench.cli import main as run
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
