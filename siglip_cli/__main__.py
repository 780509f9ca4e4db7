from siglip_cli.main import main

main()
