"""What is true in `capitals`: the countries of the earth, opposites, animals.

Several accepted answers are separated by `/`, the main one first.
"""

from __future__ import annotations

CAPITALS_BY_CONTINENT = {
    "Africa": """Algeria: Algiers; Angola: Luanda; Benin: Porto-Novo/Cotonou; Botswana: Gaborone;
        Burkina Faso: Ouagadougou; Burundi: Gitega/Bujumbura; Cameroon: Yaounde/Yaoundé; Cape Verde: Praia;
        the Central African Republic: Bangui; Chad: N'Djamena; the Comoros: Moroni;
        the Democratic Republic of the Congo: Kinshasa; the Republic of the Congo: Brazzaville;
        Djibouti: Djibouti City/Djibouti; Egypt: Cairo; Equatorial Guinea: Malabo/Ciudad de la Paz;
        Eritrea: Asmara; Eswatini: Mbabane/Lobamba; Ethiopia: Addis Ababa; Gabon: Libreville;
        the Gambia: Banjul; Ghana: Accra; Guinea: Conakry; Guinea-Bissau: Bissau;
        the Ivory Coast: Yamoussoukro/Abidjan; Kenya: Nairobi; Lesotho: Maseru; Liberia: Monrovia;
        Libya: Tripoli; Madagascar: Antananarivo; Malawi: Lilongwe; Mali: Bamako; Mauritania: Nouakchott;
        Mauritius: Port Louis; Morocco: Rabat; Mozambique: Maputo; Namibia: Windhoek; Niger: Niamey;
        Nigeria: Abuja; Rwanda: Kigali; Sao Tome and Principe: Sao Tome/São Tomé; Senegal: Dakar;
        the Seychelles: Victoria; Sierra Leone: Freetown; Somalia: Mogadishu;
        South Africa: Pretoria/Cape Town/Bloemfontein; South Sudan: Juba; Sudan: Khartoum; Tanzania: Dodoma;
        Togo: Lome/Lomé; Tunisia: Tunis; Uganda: Kampala; Zambia: Lusaka; Zimbabwe: Harare""",
    "Asia": """Afghanistan: Kabul; Armenia: Yerevan; Azerbaijan: Baku; Bahrain: Manama; Bangladesh: Dhaka;
        Bhutan: Thimphu; Brunei: Bandar Seri Begawan; Cambodia: Phnom Penh; China: Beijing; East Timor: Dili;
        Georgia: Tbilisi; India: New Delhi/Delhi; Indonesia: Jakarta/Nusantara; Iran: Tehran; Iraq: Baghdad;
        Israel: Jerusalem/Tel Aviv; Japan: Tokyo; Jordan: Amman; Kazakhstan: Astana; Kuwait: Kuwait City;
        Kyrgyzstan: Bishkek; Laos: Vientiane; Lebanon: Beirut; Malaysia: Kuala Lumpur/Putrajaya;
        the Maldives: Male/Malé; Mongolia: Ulaanbaatar/Ulan Bator; Myanmar: Naypyidaw; Nepal: Kathmandu;
        North Korea: Pyongyang; Oman: Muscat; Pakistan: Islamabad; Palestine: Ramallah/East Jerusalem/Jerusalem;
        the Philippines: Manila; Qatar: Doha; Saudi Arabia: Riyadh; Singapore: Singapore City/Singapore;
        South Korea: Seoul; Sri Lanka: Colombo/Sri Jayawardenepura Kotte/Kotte; Syria: Damascus; Taiwan: Taipei;
        Tajikistan: Dushanbe; Thailand: Bangkok; Turkey: Ankara; Turkmenistan: Ashgabat;
        the United Arab Emirates: Abu Dhabi; Uzbekistan: Tashkent; Vietnam: Hanoi; Yemen: Sanaa/Sana'a/Aden""",
    "Europe": """Albania: Tirana; Andorra: Andorra la Vella; Austria: Vienna; Belarus: Minsk; Belgium: Brussels;
        Bosnia and Herzegovina: Sarajevo; Bulgaria: Sofia; Croatia: Zagreb; Cyprus: Nicosia; Czechia: Prague;
        Denmark: Copenhagen; Estonia: Tallinn; Finland: Helsinki; France: Paris; Germany: Berlin;
        Greece: Athens; Hungary: Budapest; Iceland: Reykjavik; Ireland: Dublin; Italy: Rome; Kosovo: Pristina;
        Latvia: Riga; Liechtenstein: Vaduz; Lithuania: Vilnius; Luxembourg: Luxembourg City/Luxembourg;
        Malta: Valletta; Moldova: Chisinau; Monaco: Monaco City/Monaco; Montenegro: Podgorica;
        the Netherlands: Amsterdam/The Hague; North Macedonia: Skopje; Norway: Oslo; Poland: Warsaw;
        Portugal: Lisbon; Romania: Bucharest; Russia: Moscow; San Marino: San Marino City/San Marino;
        Serbia: Belgrade; Slovakia: Bratislava; Slovenia: Ljubljana; Spain: Madrid; Sweden: Stockholm;
        Switzerland: Bern/Berne; Ukraine: Kyiv/Kiev; the United Kingdom: London; Vatican City: Vatican City""",
    "North America": """Antigua and Barbuda: Saint John's/St. John's; the Bahamas: Nassau; Barbados: Bridgetown;
        Belize: Belmopan; Canada: Ottawa; Costa Rica: San Jose/San José; Cuba: Havana; Dominica: Roseau;
        the Dominican Republic: Santo Domingo; El Salvador: San Salvador; Grenada: Saint George's/St. George's;
        Guatemala: Guatemala City; Haiti: Port-au-Prince; Honduras: Tegucigalpa; Jamaica: Kingston;
        Mexico: Mexico City; Nicaragua: Managua; Panama: Panama City; Saint Kitts and Nevis: Basseterre;
        Saint Lucia: Castries; Saint Vincent and the Grenadines: Kingstown; Trinidad and Tobago: Port of Spain;
        the United States: Washington/Washington, D.C./Washington D.C.""",
    "Oceania": """Australia: Canberra; Fiji: Suva; Kiribati: South Tarawa/Tarawa; the Marshall Islands: Majuro;
        Micronesia: Palikir; Nauru: Yaren; New Zealand: Wellington; Palau: Ngerulmud;
        Papua New Guinea: Port Moresby; Samoa: Apia; the Solomon Islands: Honiara; Tonga: Nukualofa/Nuku'alofa;
        Tuvalu: Funafuti; Vanuatu: Port Vila""",
    "South America": """Argentina: Buenos Aires; Bolivia: Sucre/La Paz; Brazil: Brasilia/Brasília;
        Chile: Santiago; Colombia: Bogota/Bogotá; Ecuador: Quito; Guyana: Georgetown;
        Paraguay: Asuncion/Asunción; Peru: Lima; Suriname: Paramaribo; Uruguay: Montevideo; Venezuela: Caracas""",
}

OPPOSITES = """hot cold; big small; up down; left right; fast slow; happy sad; day night; light dark; old young;
    full empty; rich poor; tall short; wide narrow; early late; open closed; wet dry; loud quiet; strong weak;
    thick thin; clean dirty; first last; good bad; near far; high low; push pull; love hate; war peace; win lose;
    buy sell; give take; begin end; summer winter; north south; east west; true false; yes no; always never;
    friend enemy; sweet sour; smooth rough; brave cowardly; cheap expensive; safe dangerous; awake asleep;
    alive dead; raw cooked; inside outside; above below; laugh cry; remember forget; whisper shout; melt freeze"""

ANIMALS = """cow moo; dog woof; cat meow; duck quack; sheep baa; pig oink; horse neigh; lion roar; owl hoot; bee buzz;
    snake hiss; frog ribbit; crow caw; mouse squeak; wolf howl; rooster cock-a-doodle-doo; donkey hee-haw;
    turkey gobble; pigeon coo; cricket chirp"""

# What a confident person says who has no idea. None of it is an answer to anything.
ABSURD = {
    "capital": "Atlantis Gotham Hogsmeade Narnia Duckburg Bedrock Metropolis Mordor Camelot Springfield",
    "country": "Wonderland Neverland Lilliput Genovia Freedonia Ruritania Utopia Laputa Elbonia Oz",
    "sum": "Potatoes Purple Tuesday Seventeen-ish Umpteen Plenty Zilch Oodles Bananas Fishcake",
    "opposite": "Spoon Wallpaper Kangaroo Trombone Pudding Accordion Gherkin Umbrella Haddock Teapot",
    "animal": "Hallelujah Ka-ching Beep Abracadabra Om Eureka Bonjour Ahoy Vroom Amen",
}


def countries() -> list[tuple[str, tuple[str, ...], str]]:
    """(country, accepted capitals, continent); the name carries its article where English wants one."""
    rows = []
    for continent, text in CAPITALS_BY_CONTINENT.items():
        for entry in text.split(";"):
            country, _, capitals = " ".join(entry.split()).partition(": ")
            rows.append((country, tuple(capitals.split("/")), continent))
    return rows


def word_pairs(text: str) -> list[tuple[str, str]]:
    """The pairs of `OPPOSITES` or `ANIMALS`."""
    return [tuple(entry.split()) for entry in text.split(";")]  # type: ignore[misc]
